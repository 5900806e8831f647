use super::Backend;
use std::{fmt, path::Path};

/// What the demo prints once it runs: where everything is, and lines to copy.
pub(super) struct Guide<'a> {
    pub(super) proxy: &'a str,
    pub(super) admin: &'a str,
    pub(super) members: &'a [Backend],
    pub(super) spare: &'a Backend,
    pub(super) file: &'a Path,
    /// This very executable.
    pub(super) command: &'a Path,
    /// The backends share their carts.
    pub(super) shared: bool,
}

impl fmt::Display for Guide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, admin, members, spare, file, command, shared } = self;
        let command = command.display();
        writeln!(f, "\nSteadfast runs. Ctrl-C ends all of it.\n")?;
        writeln!(f, "  proxy    http://{proxy}")?;
        writeln!(f, "  admin    http://{admin}")?;
        writeln!(f, "  file     {}", file.display())?;
        for backend in *members {
            writeln!(f, "  {:<8} http://{}   pid {}", backend.name, backend.address, backend.pid())?;
        }
        writeln!(f, "  {:<8} http://{}   pid {}, not in the pool yet", spare.name, spare.address, spare.pid())?;
        let carts = match shared {
            true => "The backends keep sessions and carts in a store that they share.",
            false => "Each backend keeps sessions and carts in its own memory alone.",
        };
        write!(
            f,
            "
{carts}

1. A session stays on its backend: log in, fill the cart, look at it again and again.

  curl -c jar -b jar -X POST 'http://{proxy}/login?user=ada'
  curl -c jar -b jar -X POST 'http://{proxy}/cart?item=tea'
  for i in 1 2 3 4 5; do curl -c jar -b jar http://{proxy}/cart; done
  for i in 1 2 3 4 5; do curl http://{proxy}/; done    # without cookies: each in turn

2. Kill the backend that answered: the session goes to another one, its cart is gone, and the loss is counted.

"
        )?;
        for backend in *members {
            writeln!(f, "  kill {}    # {}", backend.pid(), backend.name)?;
        }
        let (first, pool) = (&members[0].name, format!("http://{admin}/v1/pools/shop"));
        write!(
            f,
            "  curl -c jar -b jar http://{proxy}/cart
  curl {pool}/backends
  {command} ctl --admin {admin} backends shop    # the same as a table
  curl -s http://{admin}/metrics | grep sessions_lost

3. Drain a backend: its sessions stay, it gets no new one. Then take it back.

  curl -X POST -H 'content-type: application/json' -d '{{\"mode\": \"persist\"}}' {pool}/backends/{first}/drain
  curl {pool}/backends/{first}
  curl -X POST {pool}/backends/{first}/activate

4. Add a backend: no session moves, new ones reach it.

  curl -X PUT -H 'content-type: application/json' -d '{{\"address\": \"{}\"}}' {pool}/backends/{}
  for i in 1 2 3 4 5 6 7 8; do curl http://{proxy}/; done

",
            spare.address, spare.name
        )?;
        let end = match shared {
            true => "Any backend can serve any of them: it runs to its end.",
            false => "Their carts are in memory: it stops by itself, and they are back at them.",
        };
        write!(
            f,
            "5. Let a growing share of the users go to any backend. {end}

  {command} ctl --admin {admin} release shop --steps 25,50,100 --hold 1s --harm 0.5
  for i in $(seq 300); do rm -f jar; curl -so /dev/null -c jar 'http://{proxy}/login?user=u' -X POST
    for j in 1 2 3 4; do curl -so /dev/null -c jar -b jar http://{proxy}/cart; done; done
  {command} ctl --admin {admin} release shop

"
        )
    }
}
