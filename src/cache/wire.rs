//! A header as HTTP/1.1 sends it (RFC 9112 §2.1), for answers that are written as bytes.

use bytes::{BufMut, BytesMut};
use http::header;
use pingora::http::ResponseHeader;
use std::time::SystemTime;

/// Status line and fields without the empty line. `Date` stays what it was, for a cache does not rewrite it; where the
/// origin gave none it is `received` (RFC 9110 §6.6.1). `Connection` and its kin are for whoever writes the answer.
pub fn block(head: &ResponseHeader, received: SystemTime) -> BytesMut {
    let fields = head.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum::<usize>();
    let mut out = BytesMut::with_capacity(fields + 384);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.get_reason_phrase().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    if head.headers.contains_key(header::CONNECTION) || head.headers.contains_key(header::TRANSFER_ENCODING) {
        let mut head = head.clone();
        head.remove_header(&header::CONNECTION);
        head.remove_header(&header::TRANSFER_ENCODING);
        head.header_to_h1_wire(&mut out);
    } else {
        head.header_to_h1_wire(&mut out);
    }
    if !head.headers.contains_key(header::DATE) {
        line(&mut out, "Date", httpdate::fmt_http_date(received).as_bytes());
    }
    out
}

/// One field line.
pub fn line(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// One field line with a number.
pub fn number(out: &mut BytesMut, name: &str, value: u64) {
    // A header value of a number is made without the formatting machinery.
    line(out, name, http::HeaderValue::from(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn sent(fields: &[(&'static str, &'static str)]) -> String {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        String::from_utf8(block(&head, UNIX_EPOCH + Duration::from_secs(784_111_777)).to_vec()).unwrap()
    }

    #[test]
    fn rfc9112_2_1_status_line_and_fields_as_they_were_stored() {
        let date = ("Date", "Mon, 07 Nov 1994 08:49:37 GMT");
        assert_eq!(
            sent(&[("X-One", "1"), ("x-one", "2"), date, ("connection", "close"), ("transfer-encoding", "chunked")]),
            "HTTP/1.1 200 OK\r\nX-One: 1\r\nx-one: 2\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n",
        );
    }

    #[test]
    fn rfc9110_6_6_1_without_a_date_it_is_when_the_answer_came() {
        assert_eq!(sent(&[]), "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    }

    #[test]
    fn numbers_are_written_in_full() {
        let mut out = BytesMut::new();
        number(&mut out, "Age", 0);
        number(&mut out, "Age", u64::MAX);
        assert_eq!(&out[..], b"Age: 0\r\nAge: 18446744073709551615\r\n");
    }
}
