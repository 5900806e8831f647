//! What clients do with their markers, by route. The data planes bound how many routes are counted.

use super::Page;
use crate::{control_server::peers::add, state::View};
use control::{cost::RouteStats, counters::RouteCount, status::Counts};
use std::{borrow::Cow, collections::BTreeMap};

pub(super) fn counters(page: &mut Page, view: &View) {
    let mut sums: BTreeMap<_, Counts> = BTreeMap::new();
    for (pool, stats) in view.counted().flat_map(|stats| &stats.pools) {
        for RouteStats { listener, host, path, counts } in &stats.routes {
            add(sums.entry((pool, listener, host, path)).or_default(), counts);
        }
    }
    for count in RouteCount::ALL {
        let name = format!("steadfast_route_{}_total", count.name());
        page.family(&name, "counter", count.help());
        for ((pool, listener, host, path), counts) in &sums {
            let (host, path) = (label(host.as_deref()), label(path.as_deref()));
            let labels = format_args!("{{pool=\"{pool}\",listener=\"{listener}\",host=\"{host}\",path=\"{path}\"}}");
            page.sample(&name, labels, counts.get(count.name()).copied().unwrap_or_default());
        }
    }
}

/// A label's value: what the format has a meaning for is escaped, and what a route doesn't say is empty.
fn label(text: Option<&str>) -> Cow<'_, str> {
    let text = text.unwrap_or_default();
    match text.contains(['\\', '"', '\n']) {
        true => text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_are_escaped() {
        for (text, escaped) in [(None, ""), (Some("/cart"), "/cart"), (Some(r#"/a"b\"#), r#"/a\"b\\"#)] {
            assert_eq!(label(text), escaped);
        }
    }
}
