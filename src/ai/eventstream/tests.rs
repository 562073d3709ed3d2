//! Event streams: an independently made message, streams cut and damaged at every byte, and the writer of test streams.

use super::*;
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue};
use proptest::prelude::*;

/// A message with these headers, all of them strings.
pub fn message(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut message = Message::new(payload.as_bytes().to_vec());
    for (name, value) in headers {
        message = message.add_header(Header::new((*name).to_owned(), HeaderValue::String((*value).to_owned().into())));
    }
    let mut out = Vec::new();
    write_message_to(&message, &mut out).unwrap();
    out
}

/// A stream from its readable form: one `{"<event type>": <payload>}` per line, an exception as
/// `{"exception": "<type>", "message": …}`, an error as `{"error": "<code>", "message": …}`.
pub fn encoded(lines: &str) -> Vec<u8> {
    let json = ":content-type";
    let mut out = Vec::new();
    for line in lines.lines().filter(|l| !l.is_empty()) {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let (kind, payload) = value.as_object().unwrap().iter().next().unwrap();
        let said = value.get("message").and_then(Value::as_str);
        out.extend(match (kind.as_str(), payload.as_str()) {
            ("exception", Some(kind)) => message(
                &[(":exception-type", kind), (json, "application/json"), (":message-type", "exception")],
                &json!({ "message": said }).to_string(),
            ),
            ("error", Some(code)) => {
                message(&[(":error-code", code), (":error-message", said.unwrap()), (":message-type", "error")], "")
            }
            _ => message(
                &[(":event-type", kind), (json, "application/json"), (":message-type", "event")],
                &payload.to_string(),
            ),
        });
    }
    out
}

const LINES: &str = r#"{"messageStart":{"role":"assistant"}}
{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"Grüße"}}}
{"exception":"throttlingException","message":"slow down"}
{"error":"InternalError","message":"oh"}"#;

fn data(bytes: &[&[u8]]) -> Result<Vec<String>, Broken> {
    let mut parser = Parser::default();
    let mut out = Vec::new();
    for b in bytes {
        out.extend(parser.push(b)?.into_iter().filter_map(|f| f.data));
    }
    Ok(out)
}

#[test]
fn a_message_made_elsewhere_is_read_byte_for_byte() {
    // Made by struct and zlib.crc32 of Python, and read by botocore's own parser.
    let hex = "0000009400000057b4ab9aee0b3a6576656e742d74797065070011636f6e74656e74426c6f636b44656c74610d3a636f6e7465\
               6e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b2263\
               6f6e74656e74426c6f636b496e646578223a302c2264656c7461223a7b2274657874223a224869227d7d1f944657";
    let nibble = |c: u8| u8::try_from((c as char).to_digit(16).unwrap()).unwrap();
    let bytes: Vec<u8> = hex.as_bytes().chunks(2).map(|p| nibble(p[0]) << 4 | nibble(p[1])).collect();
    let mut parser = Parser::default();
    let frames = parser.push(&bytes).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].raw, bytes);
    let want = r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"Hi"}}}"#;
    assert_eq!(frames[0].data.as_deref(), Some(want));
    let again = encoded(want);
    assert_eq!(again, bytes, "the tests' own writer");
}

#[test]
fn any_split_of_the_bytes_gives_the_same_frames() {
    let bytes = encoded(LINES);
    let whole = data(&[&bytes]).unwrap();
    assert_eq!(
        whole,
        [
            r#"{"messageStart":{"role":"assistant"}}"#,
            r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"Grüße"}}}"#,
            r#"{"error":{"type":"ThrottlingException","message":"slow down","status":429}}"#,
            r#"{"error":{"type":"InternalError","message":"oh"}}"#,
        ]
    );
    assert_eq!(data(&bytes.chunks(1).collect::<Vec<_>>()).unwrap(), whole);
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(data(&[a, b]).unwrap(), whole, "cut at {at}");
    }
}

#[test]
fn a_stream_may_end_between_messages_only() {
    let bytes = encoded(LINES.lines().next().unwrap());
    for at in 0..=bytes.len() {
        let mut parser = Parser::default();
        parser.push(&bytes[..at]).unwrap();
        assert_eq!(parser.is_whole(), at == 0 || at == bytes.len(), "{at}");
    }
}

#[test]
fn a_damaged_byte_never_gives_a_frame() {
    let bytes = encoded(LINES.lines().nth(1).unwrap());
    for at in 0..bytes.len() {
        for flip in [1u8, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let mut parser = Parser::default();
            match parser.push(&damaged) {
                Err(_) => {}
                // A larger length: it waits for more, and the end of the stream is no clean one.
                Ok(frames) => assert!(frames.is_empty() && !parser.is_whole(), "{at}"),
            }
        }
    }
}

#[test]
fn a_length_beyond_all_bounds_is_refused_before_it_is_waited_for() {
    let mut parser = Parser::default();
    assert_eq!(parser.push(&[0xff; 3]), Ok(vec![]));
    assert_eq!(parser.push(&[0xff]), Err(Broken::TooLarge));
    assert_eq!(Parser::default().push(&15u32.to_be_bytes()), Err(Broken::Malformed));
}

#[test]
fn a_message_without_its_type_or_with_a_payload_that_is_no_text_is_refused() {
    let untyped = message(&[(":event-type", "messageStart")], "{}");
    assert_eq!(Parser::default().push(&untyped), Err(Broken::Malformed));
    let unnamed = message(&[(":message-type", "event")], "{}");
    assert_eq!(Parser::default().push(&unnamed), Err(Broken::Malformed));
    let empty = message(&[(":message-type", "event"), (":event-type", "ping")], "");
    assert_eq!(data(&[&empty]).unwrap(), [r#"{"ping":{}}"#]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_hold_more_than_a_message(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8)) {
        let mut parser = Parser::default();
        for piece in &pieces {
            if parser.push(piece).is_err() {
                break;
            }
            prop_assert!(parser.buf.len() <= MESSAGE_BYTES_MAX);
        }
    }

    #[test]
    fn no_header_block_makes_it_panic(headers in prop::collection::vec(any::<u8>(), 0..120), payload in prop::collection::vec(any::<u8>(), 0..20)) {
        // Right checksums over random headers, so that the parsing of headers itself is reached.
        let crc = |bytes: &[u8]| {
            let mut crc = flate2::Crc::new();
            crc.update(bytes);
            crc.sum().to_be_bytes()
        };
        let total = u32::try_from(16 + headers.len() + payload.len()).unwrap();
        let mut bytes = [total.to_be_bytes(), u32::try_from(headers.len()).unwrap().to_be_bytes()].concat();
        bytes.extend(crc(&bytes));
        bytes.extend(&headers);
        bytes.extend(&payload);
        bytes.extend(crc(&bytes));
        let _ = Parser::default().push(&bytes);
    }
}
