//! The dashboard: a page and what it loads, in the binary. It holds no data, so whoever asks gets it; the page asks the API
//! for all that it shows, with the token where there is one.

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! files {
    ($($name:literal $kind:ident,)*) => {
        &[
            File { path: "/", kind: HTML, bytes: include_bytes!("page/index.html") },
            $(File { path: concat!("/dashboard/", $name), kind: $kind, bytes: include_bytes!(concat!("page/", $name)) },)*
        ]
    };
}

const FILES: &[File] = files! {
    "actions.js" SCRIPT,
    "api.js" SCRIPT,
    "app.js" SCRIPT,
    "backends.js" SCRIPT,
    "charts.js" SCRIPT,
    "dialog.js" SCRIPT,
    "dialogs.css" STYLE,
    "drains.js" SCRIPT,
    "events.js" SCRIPT,
    "format.js" SCRIPT,
    "icon.svg" IMAGE,
    "live.js" SCRIPT,
    "login.js" SCRIPT,
    "overview.js" SCRIPT,
    "parts.js" SCRIPT,
    "pool.js" SCRIPT,
    "ramp.js" SCRIPT,
    "rebalance.js" SCRIPT,
    "release.js" SCRIPT,
    "stickiness.js" SCRIPT,
    "store.js" SCRIPT,
    "style.css" STYLE,
    "theme.js" SCRIPT,
    "workers.js" SCRIPT,
    "vendor/preact.LICENSE" TEXT,
    "vendor/preact.mjs" SCRIPT,
    "vendor/uPlot.LICENSE" TEXT,
    "vendor/uPlot.iife.min.js" SCRIPT,
    "vendor/uPlot.min.css" STYLE,
};

/// Nothing but what is served here, nothing inline, nothing in a frame, and no text that becomes script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        let tag = format!("\"{}\"", &blake3::hash(file.bytes).to_hex()[..16]);
        router.route(file.path, get(move |headers: HeaderMap| async move { file.answer(&tag, &headers) }))
    })
}

impl File {
    /// Browsers ask each time and get it once for each version of the binary.
    fn answer(&self, tag: &str, asked: &HeaderMap) -> Response {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let known = known.flat_map(|tags| tags.split(',')).any(|each| each.trim().trim_start_matches("W/") == tag);
        let headers = [
            (header::ETAG, HeaderValue::try_from(tag).expect("tags are hexadecimal")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_TYPE, HeaderValue::from_static(self.kind)),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        match known {
            true => (StatusCode::NOT_MODIFIED, headers).into_response(),
            false => (headers, self.bytes).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, http::Request};
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };
    use tower::ServiceExt;

    async fn ask(path: &str, tag: Option<&str>) -> Response {
        let request = Request::get(path).header(header::IF_NONE_MATCH, tag.unwrap_or("\"another\""));
        routes().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn every_file_says_what_it_is_and_what_it_may_do() {
        for File { path, kind, bytes } in FILES {
            let answer = ask(path, None).await;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            let header = |name: header::HeaderName| answer.headers()[name].to_str().unwrap().to_owned();
            let expected = [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, "no-cache"),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
            ];
            for (name, value) in expected {
                assert_eq!(header(name), value, "{path}");
            }
            let tag = header(header::ETAG);
            let sent = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            assert_eq!(sent, bytes, "{path}");
            for known in [tag.clone(), format!("\"x\", W/{tag}")] {
                let again = ask(path, Some(&known)).await;
                assert_eq!(
                    (again.status(), again.headers()[header::ETAG].to_str().unwrap()),
                    (StatusCode::NOT_MODIFIED, &*tag)
                );
                assert_eq!(again.headers()[header::CONTENT_SECURITY_POLICY], POLICY, "{path}");
                assert!(axum::body::to_bytes(again.into_body(), usize::MAX).await.unwrap().is_empty(), "{path}");
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/page");
        let (mut folders, mut found) = (vec![page.clone()], BTreeSet::new());
        while let Some(folder) = folders.pop() {
            let paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            let (inner, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
            folders.extend(inner);
            found.extend(files.iter().map(|file| file.strip_prefix(&page).unwrap().to_str().unwrap().to_owned()));
        }
        let served = FILES.iter().map(|file| file.path.strip_prefix("/dashboard/").unwrap_or("index.html").to_owned());
        let mut served: BTreeSet<_> = served.collect();
        // For those who read the source.
        served.insert("vendor/README.md".to_owned());
        assert_eq!(served, found);
    }
}
