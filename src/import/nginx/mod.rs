//! nginx's configuration: `http` and `stream`, with the files that are included.

mod affinity;
mod locations;
mod pools;
mod said;
mod servers;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod tree;

use super::{
    draft::{Draft, Names},
    report::{Ledger, Unreadable, Verdict},
};
use pools::Pools;
pub(super) use tree::Include;
use tree::{Directive, say};

/// Directives that stand in `http` and tell a file of it that is imported by itself.
const OF_HTTP: [&str; 3] = ["server", "upstream", "map"];

/// What these sources come to; what became of their lines goes into the ledger.
pub(super) fn import(ledger: &mut Ledger, include: Include<'_>) -> Result<Draft, Unreadable> {
    let all = tree::read(ledger, include)?;
    let known = |directive: &Directive| {
        OF_HTTP.contains(&directive.name()) || matches!(directive.name(), "http" | "stream" | "events")
    };
    if !all.iter().any(|directive| directive.is_block && known(directive)) {
        return Err(Unreadable { place: None, why: "has neither `http` nor `stream`, nor a `server`".to_owned() });
    }
    let (inside, all): (Vec<_>, Vec<_>) = all.into_iter().partition(|each| OF_HTTP.contains(&each.name()));
    let loose = Directive::http(inside);
    let (mut draft, mut pools, mut names) = (Draft::default(), Pools::default(), Names::default());
    for block in [&loose].into_iter().chain(all.iter().filter(|each| each.is_block)) {
        match block.name() {
            "http" => {
                pools.know(block);
                servers::listeners(ledger, &mut draft, &[block], &mut pools, &mut names);
            }
            "stream" => {
                pools.know(block);
                stream::listeners(ledger, &mut draft, block, &mut pools, &mut names);
            }
            _ => continue,
        }
        if !std::ptr::eq(block, &raw const loose) {
            say(ledger, block, Verdict::taken("what is in it"));
        }
        pools.part();
    }
    pools.into_made().for_each(|pool| draft.add_pool(pool));
    said::leftovers(ledger, &loose.block);
    said::leftovers(ledger, &all);
    Ok(draft)
}
