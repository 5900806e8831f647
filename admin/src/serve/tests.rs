use super::*;
use crate::testing::Folder;
use axum::{body::Body, routing::get};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

struct Server {
    state: Arc<State>,
    address: SocketAddr,
    running: JoinHandle<()>,
    _folder: Folder,
}

impl Server {
    async fn start(router: Router) -> Self {
        let folder = Folder::new();
        let state = State::start(folder.config(&[])).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&state);
        let running = tokio::spawn(async move { serve(Listener::Tcp(listener), None, router, &serving).await });
        Self { state, address, running, _folder: folder }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// All that comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends it too.
    drop(stream.read_to_end(&mut bytes).await);
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection() {
    let server = Server::start(Router::new().route("/", get(async || "hello"))).await;
    for part in [&b""[..], b"GET / HTTP/1.1\r\nHost: local"] {
        let begun = Instant::now();
        let mut slow = server.connect().await;
        slow.write_all(part).await.unwrap();
        rest(&mut slow).await;
        assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
    let mut long = server.connect().await;
    let head = [b"GET / HTTP/1.1\r\nX: ", vec![b'x'; MAX_HEAD * 2].as_slice()].concat();
    drop(long.write_all(&head).await);
    assert!(rest(&mut long).await.starts_with(b"HTTP/1.1 431"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off() {
    const SIZE: usize = 64 << 20;
    let server = Server::start(Router::new().route("/", get(async || Body::from(vec![0; SIZE])))).await;
    let mut slow = server.connect().await;
    slow.write_all(GET).await.unwrap();
    // Nobody reads; time passes as soon as there is nothing else to do.
    tokio::time::timeout(STALL_TIMEOUT * 2, std::future::pending::<()>()).await.unwrap_err();
    assert!(rest(&mut slow).await.len() < SIZE);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_make_room_for_others() {
    let server = Server::start(Router::new().route("/", get(async || "hello"))).await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        idle.push(server.connect().await);
    }
    let begun = Instant::now();
    let mut late = server.connect().await;
    late.write_all(GET).await.unwrap();
    let mut answer = [0; 12];
    late.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert!(begun.elapsed() >= HEAD_TIMEOUT, "it had to wait for a place");
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_takes_no_more() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, release) = (Arc::clone(&entered), Arc::clone(&leave));
    let slow = move || {
        let (entered, leave) = (Arc::clone(&inside), Arc::clone(&release));
        async move {
            entered.notify_one();
            leave.notified().await;
            "done"
        }
    };
    let server = Server::start(Router::new().route("/", get(slow))).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(GET).await.unwrap();
    entered.notified().await;
    server.state.stopping.send_replace(true);
    assert_eq!(rest(&mut idle).await, b"", "an idle connection closes");
    assert!(!server.running.is_finished());
    leave.notify_one();
    assert!(rest(&mut busy).await.ends_with(b"done"));
    server.running.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_ever() {
    let server = Server::start(Router::new().route("/", get(std::future::pending::<&str>))).await;
    let mut stuck = server.connect().await;
    stuck.write_all(GET).await.unwrap();
    tokio::time::timeout(HEAD_TIMEOUT * 2, stuck.read_u8()).await.unwrap_err();
    let begun = Instant::now();
    server.state.stopping.send_replace(true);
    server.running.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), FINISH_TIMEOUT.as_secs());
}
