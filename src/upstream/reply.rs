//! Reads a reply: its body, unpacked and capped, and its `Retry-After`. Doesn't know what it says.

use std::{
    io::{self, Read as _},
    time::{Duration, SystemTime},
};

use ::http::{
    HeaderMap, Response,
    header::{CONTENT_ENCODING, RETRY_AFTER},
};
use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::time::within;
use crate::rest::Ending;

/// Members of a gzip body that are unpacked. Servers send one; each costs a decoder, however little
/// it holds.
const MAX_MEMBERS: usize = 16;

/// Reads a body up to the cap, and stops reading there or at `until`. The cap holds for what was
/// unpacked too, so that a small reply can't become a large one. Says so for each part that came.
pub(super) async fn read(
    response: &mut Response<Incoming>,
    limit: usize,
    until: Option<Instant>,
    heard: impl Fn(),
) -> (Bytes, Ending) {
    let (body, ending) = collect(response.body_mut(), limit, until, heard).await;
    match response.headers().get(CONTENT_ENCODING) {
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"gzip") => {
            unpack(&body, ending, limit)
        }
        Some(_) | None => (body, ending),
    }
}

async fn collect(
    body: &mut Incoming,
    limit: usize,
    until: Option<Instant>,
    heard: impl Fn(),
) -> (Bytes, Ending) {
    // Nearly every body comes in one piece, which needs no copy. A longer one gets a buffer of its size.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let ending = loop {
        let mut chunk = match within(until, body.frame()).await {
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(chunk) => chunk,
                Err(_trailers) => continue,
            },
            Some(None) => break Ending::Complete,
            Some(Some(Err(_))) | None => break Ending::CutShort,
        };
        heard();
        let room = limit - first.len() - all.len();
        let fits = chunk.len() <= room;
        chunk.truncate(room);
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                let to_come = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
                let have = first.len() + chunk.len();
                all.reserve(to_come.saturating_add(have).min(limit));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&chunk);
        }
        if !fits {
            break Ending::TooLarge;
        }
    };
    let body = if all.is_empty() { first } else { all.freeze() };
    (body, ending)
}

/// Unpacks gzip, as much of it as there is.
fn unpack(packed: &[u8], ending: Ending, limit: usize) -> (Bytes, Ending) {
    let mut unpacked = Vec::new();
    let mut rest = packed;
    let mut read = Ok(0);
    for _ in 0..MAX_MEMBERS {
        let room = limit.saturating_add(1).saturating_sub(unpacked.len());
        let mut member = GzDecoder::new(rest).take(u64::try_from(room).unwrap_or(u64::MAX));
        read = member.read_to_end(&mut unpacked);
        rest = member.into_inner().into_inner();
        if rest.is_empty() || read.is_err() || unpacked.len() > limit {
            break;
        }
    }
    let ended_early = |error: io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    let ending = if unpacked.len() > limit {
        unpacked.truncate(limit);
        Ending::TooLarge
    } else if read.is_ok() && !rest.is_empty() {
        Ending::TooLarge
    } else if ending == Ending::Complete && read.is_err_and(ended_early) {
        Ending::CutShort
    } else {
        // Where it was not gzip after all, what was unpacked is no JSON document, which says enough.
        ending
    };
    (unpacked.into(), ending)
}

/// `Retry-After`, in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    #[expect(clippy::disallowed_methods, reason = "Retry-After may be a date")]
    let now = SystemTime::now;
    delay(value, now)
}

fn delay(retry_after: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    if let Ok(seconds) = retry_after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(retry_after).ok()?;
    Some(date.duration_since(now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::UNIX_EPOCH};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        let delay = |value| {
            let now = || UNIX_EPOCH + Duration::from_secs(784_111_777);
            delay(value, now).map(|delay| delay.as_secs())
        };
        assert_eq!(delay("86399"), Some(86_399));
        assert_eq!(delay("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(delay("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        assert_eq!(delay("soon"), None);
        assert_eq!(delay("-1"), None);
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_unpacked_up_to_the_cap() {
        let text = vec![b'a'; 100_000];
        let packed = packed(&text);
        assert!(packed.len() < 1000);
        let (body, ending) = unpack(&packed, Ending::Complete, 100_000);
        assert_eq!((body.len(), ending), (100_000, Ending::Complete));
        let (body, ending) = unpack(&packed, Ending::Complete, 99_999);
        assert_eq!((body.len(), ending), (99_999, Ending::TooLarge));
    }

    #[test]
    fn few_members_of_gzip_are_unpacked() {
        let two = [packed(b"{\"success\":"), packed(b"true}")].concat();
        let (body, ending) = unpack(&two, Ending::Complete, 1000);
        assert_eq!(
            (&*body, ending),
            (&b"{\"success\":true}"[..], Ending::Complete)
        );
        let many = packed(b" ").repeat(40_000);
        let (body, ending) = unpack(&many, Ending::Complete, 1 << 20);
        assert_eq!((body.len(), ending), (MAX_MEMBERS, Ending::TooLarge));
    }

    #[test]
    fn gzip_cut_short_gives_what_there_is() {
        let packed = packed(br#"{"success":true}"#);
        let (_, ending) = unpack(&packed[..packed.len() - 4], Ending::Complete, 1000);
        assert_eq!(ending, Ending::CutShort);
        let (body, _) = unpack(b"no gzip", Ending::Complete, 1000);
        assert!(body.is_empty());
    }
}
