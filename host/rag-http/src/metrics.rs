//! Counts requests by route and status, their time, and what waits, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds.
const BUCKETS_S: [f64; 10] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Counters since the start. Labels are routes of our own, never text of a request, so their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<Labels, Series>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Debug, Default)]
struct Series {
    buckets: [u64; BUCKETS_S.len()],
    count: u64,
    seconds: f64,
}

/// A number of the moment, with its help text.
#[derive(Debug)]
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Label name, label value, number; an empty label name means none.
    pub(crate) values: Vec<(&'static str, &'static str, f64)>,
}

impl Metrics {
    pub(crate) fn record(&self, labels: Labels, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all.entry(labels).or_default();
        series.count += 1;
        series.seconds += seconds;
        for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS_S) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// The whole page, gauges last.
    pub(crate) fn render(&self, gauges: &[Gauge]) -> String {
        let mut page = String::new();
        self.write_requests(&mut page).unwrap_or_default();
        for gauge in gauges {
            write_gauge(&mut page, gauge).unwrap_or_default();
        }
        page
    }

    fn write_requests(&self, page: &mut String) -> std::fmt::Result {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(page, "# HELP rwkv_rag_http_requests_total Requests answered, by route and status.")?;
        writeln!(page, "# TYPE rwkv_rag_http_requests_total counter")?;
        for (labels, series) in all.iter() {
            writeln!(page, "rwkv_rag_http_requests_total{{{}}} {}", labels.text(), series.count)?;
        }
        writeln!(
            page,
            "# HELP rwkv_rag_http_request_seconds Time from the head of a request to the end of its answer."
        )?;
        writeln!(page, "# TYPE rwkv_rag_http_request_seconds histogram")?;
        for (labels, series) in all.iter() {
            let text = labels.text();
            for (bound, count) in BUCKETS_S.iter().zip(series.buckets) {
                writeln!(page, "rwkv_rag_http_request_seconds_bucket{{{text},le=\"{bound}\"}} {count}")?;
            }
            writeln!(page, "rwkv_rag_http_request_seconds_bucket{{{text},le=\"+Inf\"}} {}", series.count)?;
            writeln!(page, "rwkv_rag_http_request_seconds_sum{{{text}}} {}", series.seconds)?;
            writeln!(page, "rwkv_rag_http_request_seconds_count{{{text}}} {}", series.count)?;
        }
        Ok(())
    }
}

impl Labels {
    fn text(&self) -> String {
        format!("method=\"{}\",route=\"{}\",status=\"{}\"", self.method, self.route, self.status)
    }
}

fn write_gauge(page: &mut String, gauge: &Gauge) -> std::fmt::Result {
    writeln!(page, "# HELP {} {}", gauge.name, gauge.help)?;
    writeln!(page, "# TYPE {} gauge", gauge.name)?;
    for (label, value, number) in &gauge.values {
        if label.is_empty() {
            writeln!(page, "{} {number}", gauge.name)?;
        } else {
            writeln!(page, "{}{{{label}=\"{value}\"}} {number}", gauge.name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        let labels = || Labels { method: "GET", route: "/x/{id}".into(), status: 200 };
        metrics.record(labels(), Duration::from_millis(30));
        metrics.record(labels(), Duration::from_secs(100));
        let page = metrics.render(&[Gauge { name: "queue", help: "h", values: vec![("", "", 3.0)] }]);
        let series = "method=\"GET\",route=\"/x/{id}\",status=\"200\"";
        for line in [
            format!("rwkv_rag_http_requests_total{{{series}}} 2"),
            format!("rwkv_rag_http_request_seconds_bucket{{{series},le=\"0.02\"}} 0"),
            format!("rwkv_rag_http_request_seconds_bucket{{{series},le=\"0.05\"}} 1"),
            format!("rwkv_rag_http_request_seconds_bucket{{{series},le=\"60\"}} 1"),
            format!("rwkv_rag_http_request_seconds_bucket{{{series},le=\"+Inf\"}} 2"),
            "queue 3".to_owned(),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
