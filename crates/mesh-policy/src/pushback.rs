//! What a server says about when to come back: `Retry-After` (RFC 9110, section
//! 10.2.3) and `grpc-retry-pushback-ms` (gRPC's A6).

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The longest wait that is honoured by waiting; a server that asks for more is honoured
/// by not coming back: a caller should hear of the failure now, not after minutes.
pub const MOST_PUSHBACK: Duration = Duration::from_secs(10);

const GRPC_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a server asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Not to come back.
    Never,
    /// Not to come back earlier than this.
    After(Duration),
}

impl Pushback {
    /// Reads what the headers or trailers of a response ask for; `now`, counted from the
    /// Unix epoch, is for dates.
    ///
    /// gRPC's field says "never" by anything that is no number; a `Retry-After` that is
    /// neither seconds nor a date says nothing.
    #[must_use]
    pub fn read(headers: &HeaderMap, now: Duration) -> Option<Self> {
        if let Some(value) = headers.get(GRPC_PUSHBACK) {
            let millis = value.to_str().ok().and_then(|text| text.parse().ok());
            let after = millis.map(|millis| Self::After(Duration::from_millis(millis)));
            return Some(after.unwrap_or(Self::Never));
        }
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than a number holds are longer than anybody waits.
            let seconds = text.parse().unwrap_or(u64::MAX);
            return Some(Self::After(Duration::from_secs(seconds)));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        let date = date.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Self::After(date.saturating_sub(now)))
    }

    /// How long to wait for it; `None` for not coming back at all.
    #[must_use]
    pub fn wait(asked: Option<Self>) -> Option<Duration> {
        match asked {
            None => Some(Duration::ZERO),
            Some(Self::After(wait)) if wait <= MOST_PUSHBACK => Some(wait),
            Some(Self::After(_) | Self::Never) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &'static str, value: &str) -> Option<Pushback> {
        // Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's own example.
        let now = Duration::from_secs(784_111_777);
        let value = value.parse().unwrap();
        Pushback::read(&HeaderMap::from_iter([(name.parse().unwrap(), value)]), now)
    }

    #[test]
    fn o03_seconds_dates_and_milliseconds_are_read() {
        let after = |millis| Some(Pushback::After(Duration::from_millis(millis)));
        for (name, value, asked) in [
            ("retry-after", "0", after(0)),
            ("retry-after", "120", after(120_000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT", after(3_000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT", after(0)),
            ("retry-after", "soon", None),
            ("retry-after", "-1", None),
            ("retry-after", "1.5", None),
            ("retry-after", "", None),
            ("grpc-retry-pushback-ms", "250", after(250)),
            ("grpc-retry-pushback-ms", "-1", Some(Pushback::Never)),
            ("grpc-retry-pushback-ms", "later", Some(Pushback::Never)),
            ("x-other", "1", None),
        ] {
            assert_eq!(read(name, value), asked, "{name}: {value}");
        }
        let huge = read("retry-after", &"9".repeat(40));
        assert_eq!(Pushback::wait(huge), None);
    }

    #[test]
    fn o03_a_wait_beyond_the_cap_is_no_return() {
        let wait = |asked| Pushback::wait(Some(Pushback::After(asked)));
        assert_eq!(wait(MOST_PUSHBACK), Some(MOST_PUSHBACK));
        assert_eq!(wait(MOST_PUSHBACK + Duration::from_millis(1)), None);
        assert_eq!(Pushback::wait(Some(Pushback::Never)), None);
        assert_eq!(Pushback::wait(None), Some(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~]{0,40}") {
            read("retry-after", &text);
            read("grpc-retry-pushback-ms", &text);
        }
    }
}
