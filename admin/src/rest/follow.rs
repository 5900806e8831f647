use super::{Shared, problem::Problem};
use crate::events::{Event, Feed};
use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use std::{convert::Infallible, time::Duration};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Server-sent events: `membership`, `settings`, `admin-state`, `health`, `reload`, `keys`, `dataplane`, `drain`,
/// `release`, `wrong-tokens`; and `missed` where events after `Last-Event-ID` are no longer kept. A client that does not read is cut off.
#[utoipa::path(
    get, path = "/v1/events", tag = "operation",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The last event that the client saw", nullable = false)),
    responses((status = 200, description = "An endless stream of events", content_type = "text/event-stream", body = String))
)]
pub(super) async fn events(State(app): Shared, headers: HeaderMap) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").map(|id| {
        let id = id.to_str().ok().and_then(|id| id.parse().ok());
        id.ok_or_else(|| Problem::parameter("Last-Event-ID", "is no id of an event", "send the last id, or nothing"))
    });
    let feed = app.state.events.follow(last.transpose()?);
    let feed = feed.ok_or_else(|| Problem::unavailable("too many clients follow the events already"))?;
    let events = stream::unfold(feed, |mut feed| async {
        let event = next(&mut feed).await?;
        let event = sse::Event::default().id(event.id.to_string()).event(event.kind.name()).data(&*event.data);
        Some((Ok::<_, Infallible>(event), feed))
    });
    let events = events.take_until(app.state.stopped());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// The next event; `None` where the client is too far behind.
async fn next(feed: &mut Feed) -> Option<Event> {
    match feed.missed.pop_front() {
        Some(event) => Some(event),
        None => feed.live.recv().await.ok(),
    }
}
