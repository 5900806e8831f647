//! The floor that `bench/compare` measures against: what the same ring costs when nobody looks at the bytes. Each client's
//! connection has one of its own to a backend, the backends in turn, and whatever comes on one goes out on the other.

use clap::Parser;
use monoio::{
    io::{AsyncReadRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable},
    net::{TcpListener, TcpStream},
};
use std::{io, net::SocketAddr};

/// As the data plane's.
const ENTRIES: u32 = 1_024;
const COMPLETIONS: u32 = 8 * ENTRIES;
/// Bytes that are read at once.
const ROOM: usize = 16 << 10;

/// Relays TCP connections to backends in turn, on one ring, without looking at what they carry.
#[derive(Parser)]
struct Arguments {
    /// Where clients come.
    #[arg(long)]
    listen: SocketAddr,
    /// Where they are led; may be given several times.
    #[arg(long = "backend", required = true)]
    backends: Vec<SocketAddr>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_cqsize(COMPLETIONS);
    monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(ENTRIES)
        .uring_builder(ring)
        .build()?
        .block_on(serve(&arguments))
}

async fn serve(arguments: &Arguments) -> io::Result<()> {
    let listener = TcpListener::bind(arguments.listen)?;
    for backend in arguments.backends.iter().cycle() {
        let (client, _) = listener.accept().await?;
        monoio::spawn(relay(client, *backend));
    }
    Ok(())
}

async fn relay(client: TcpStream, backend: SocketAddr) {
    let Ok(backend) = TcpStream::connect_addr(backend).await else { return };
    if client.set_nodelay(true).and_then(|()| backend.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_backend, to_backend) = backend.into_split();
    monoio::join!(pass(from_client, to_backend), pass(from_backend, to_client));
}

/// Moves bytes until their end, which is passed on.
async fn pass(mut from: OwnedReadHalf<TcpStream>, mut to: OwnedWriteHalf<TcpStream>) {
    let mut room = Vec::with_capacity(ROOM);
    loop {
        let read;
        (read, room) = from.read(room).await;
        if !read.is_ok_and(|count| count > 0) {
            break;
        }
        let written;
        (written, room) = to.write_all(room).await;
        if written.is_err() {
            break;
        }
        room.clear();
    }
    // Whoever reads there hears of it by the end; one that is gone hears nothing.
    let _ = monoio::io::AsyncWriteRent::shutdown(&mut to).await;
}
