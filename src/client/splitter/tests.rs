//! Tests of `splitter`: see the first line of each.

use proptest::prelude::*;
use redis_protocol::resp2::{
    decode, encode,
    types::{OwnedFrame, Resp2Frame},
};

use super::*;

const VALUE_BYTES: usize = 1000;

/// What a splitter makes of bytes, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Request(Form, Vec<Vec<u8>>),
    Unbalanced,
    LoneIac(Vec<Vec<u8>>),
    Refused(ProtocolError),
}

/// Splits bytes that come in pieces, as a session does, and checks on the way that it never keeps more bytes
/// than a request may have.
fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut splitter = Splitter::new(VALUE_BYTES);
    let mut seen = vec![];
    let mut kept: Vec<u8> = vec![];
    for piece in pieces {
        kept.extend_from_slice(piece);
        let mut taken = 0;
        loop {
            let len = match splitter.next(&kept[taken..]) {
                Step::More => break,
                Step::Nothing(len) => len,
                Step::Unbalanced(len) => {
                    seen.push(Seen::Unbalanced);
                    len
                }
                Step::LoneIac(len, arguments) => {
                    seen.push(Seen::LoneIac(arguments.iter().map(<[u8]>::to_vec).collect()));
                    len
                }
                Step::Request { len, form, arguments } => {
                    seen.push(Seen::Request(form, arguments.iter().map(<[u8]>::to_vec).collect()));
                    len
                }
                Step::Refused(error, _) => {
                    seen.push(Seen::Refused(error));
                    return seen;
                }
            };
            assert!(len > 0, "every step takes something");
            taken += len;
        }
        kept.drain(..taken);
        let bound = VALUE_BYTES + REQUEST_SLACK_BYTES + MAX_ARGUMENTS * HEADER_BYTES;
        assert!(kept.len() <= bound + piece.len(), "an incomplete request of {} bytes", kept.len());
    }
    seen
}

fn one(bytes: &[u8]) -> Vec<Seen> {
    let whole = split([bytes]);
    assert_eq!(whole, split(bytes.chunks(1)), "byte by byte it is the same");
    whole
}

fn array(arguments: &[&[u8]]) -> Seen {
    Seen::Request(Form::Array, arguments.iter().map(|argument| argument.to_vec()).collect())
}

fn line(arguments: &[&[u8]]) -> Seen {
    Seen::Request(Form::Line, arguments.iter().map(|argument| argument.to_vec()).collect())
}

fn refused(error: ProtocolError) -> Vec<Seen> {
    vec![Seen::Refused(error)]
}

/// Rule: arrays and lines may alternate; a bulk string may hold anything.
#[test]
fn splits_arrays_and_lines() {
    let bytes = b"*2\r\n$4\r\nECHO\r\n$7\r\n\r\n+OK\r\n\r\nPING\r\n\r\n\n*0\r\n*-1\r\n PROP 1  two words \n";
    let expected =
        [array(&[b"ECHO", b"\r\n+OK\r\n"]), line(&[b"PING"]), line(&[b"PROP", b"1", b" two words "])];
    assert_eq!(one(bytes), expected);
}

/// Rule: (hostile 14) impossible counts and lengths, and arrays in arrays, are refused as soon as their
/// header is read.
#[test]
fn refuses_what_no_request_can_be() {
    assert_eq!(one(b"*2147483647\r\n"), refused(ProtocolError::ArrayLength));
    assert_eq!(one(b"*1025\r\n"), refused(ProtocolError::ArrayLength));
    assert_eq!(one(b"*99999999999999999999\r\n"), refused(ProtocolError::ArrayLength));
    assert_eq!(one(b"*x\r\n"), refused(ProtocolError::ArrayLength));
    assert_eq!(one(b"*+1\r\n"), refused(ProtocolError::ArrayLength));
    assert_eq!(one(b"*1\n"), refused(ProtocolError::ArrayLength));
    assert_eq!(one(&[b'*'; 100]), refused(ProtocolError::ArrayLength));
    assert_eq!(one(b"*1\r\n$-5\r\n"), refused(ProtocolError::BulkLength));
    assert_eq!(one(b"*1\r\n$-1\r\n"), refused(ProtocolError::BulkLength));
    assert_eq!(one(b"*1\r\n$9999999999\r\n"), refused(ProtocolError::TooLarge(VALUE_BYTES)));
    assert_eq!(one(b"*1\r\n$4\r\nPINGPONG"), refused(ProtocolError::BulkEnd));
    let deep = b"*1\r\n".repeat(10_000);
    assert_eq!(one(&deep), refused(ProtocolError::ExpectedBulk(b'*')));
}

/// Rule: (hostile 14) HTTP and TLS are recognised; a `PROP` whose value looks like them is not refused.
#[test]
fn refuses_other_protocols() {
    let tls = b"\x16\x03\x01\x02\x00\x01\x00";
    assert_eq!(one(tls), refused(ProtocolError::Tls));
    assert_eq!(one(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), refused(ProtocolError::Http));
    assert_eq!(one(b"POST /\r\n"), refused(ProtocolError::Http));
    assert_eq!(one(b"host: evil\r\n"), refused(ProtocolError::Http));
    assert_eq!(one(b"PROP 1 HTTP/1.1\n"), [line(&[b"PROP", b"1", b"HTTP/1.1"])]);
    assert_eq!(one(b"\x16\n"), [line(&[b"\x16"])]);
}

/// Rule: (hostile 15) one byte more than a value may have is still understood, and so is the slack; what is
/// longer is refused, and the reqid is available.
#[test]
fn the_limit_and_one_more() {
    for (len, fits) in
        [(VALUE_BYTES, true), (VALUE_BYTES + 1, true), (VALUE_BYTES + LINE_SLACK_BYTES + 1, false)]
    {
        let value = vec![b'v'; len];
        let inline = [b"PROP 18446744073709551615 ", &value[..], b"\r\n"].concat();
        let header = format!("*3\r\n$4\r\nPROP\r\n$1\r\n7\r\n${len}\r\n");
        let resp = [header.as_bytes(), &value, b"\r\n"].concat();
        if fits {
            assert_eq!(one(&inline), [line(&[b"PROP", b"18446744073709551615", &value])]);
            assert_eq!(one(&resp), [array(&[b"PROP", b"7", &value])]);
        } else {
            assert_eq!(one(&inline), refused(ProtocolError::TooLarge(VALUE_BYTES)));
            assert_eq!(one(&resp), refused(ProtocolError::TooLarge(VALUE_BYTES)));
            let mut splitter = Splitter::new(VALUE_BYTES);
            let Step::Refused(_, arguments) = splitter.next(&resp) else { panic!("refused above") };
            assert_eq!(arguments.at(1), Some(&b"7"[..]));
        }
    }
}

/// Rule: the arguments are bounded together, not only each on its own.
#[test]
fn the_sum_of_the_arguments_is_bounded() {
    let argument = [&b"$1000\r\n"[..], &[b'x'; 1000], b"\r\n"].concat();
    let request = [&b"*1000\r\n"[..], &argument.repeat(1000)].concat();
    assert_eq!(one(&request[..200_000]), refused(ProtocolError::TooLarge(VALUE_BYTES)));
}

/// Rule: (hostile 1, 7, 8) a line without end is refused at the limit, whether it consists of letters, CRs or
/// a sub-negotiation.
#[test]
fn endless_lines_are_refused_at_the_limit() {
    for endless in [&b"x"[..], b"\r", b"\xff\xfax", b"*1\r\n$1000\r\n"] {
        let mut bytes = endless.to_vec();
        bytes.resize(3000, if endless == b"\r" { b'\r' } else { b'x' });
        let refusals = one(&bytes);
        assert!(matches!(refusals[..], [Seen::Refused(_)]), "{refusals:?}");
    }
}

/// Rule: quotes that do not match cost only their line.
#[test]
fn unbalanced_quotes_cost_a_line() {
    assert_eq!(one(b"ECHO \"a\r\nPING\r\n"), [Seen::Unbalanced, line(&[b"PING"])]);
    let prop = vec![b"PROP".to_vec(), b"7".to_vec(), b"caf\xff".to_vec()];
    assert_eq!(one(b"PROP 7 caf\xff\nPING\r\n"), [Seen::LoneIac(prop), line(&[b"PING"])]);
    assert_eq!(one(b"ECHO \xff\xff\xf1\n"), [line(&[b"ECHO", b"\xff\xf1"])]);
    assert_eq!(one(b"ECHO \"a b\" 'c'\n"), [line(&[b"ECHO", b"a b", b"c"])]);
}

/// Rule: (hostile 8) empty lines mean nothing, not even a million of them.
#[test]
fn a_million_empty_lines_mean_nothing() {
    assert_eq!(split([&b"\r\n".repeat(500_000)[..], &b"\n".repeat(500_000), b"PING\n"]), [line(&[b"PING"])]);
}

/// Bytes that look like requests, and bytes that do not.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop::sample::select(vec![
            &b"*1\r\n"[..], b"*3\r\n", b"*0\r\n", b"$4\r\nPING\r\n", b"$0\r\n\r\n", b"$3\r\n", b"\r\n", b"\n", b"\r",
            b" ", b"PING", b"PROP 1 x", b"prop ", b"\"", b"'", b"\\x41", b"\xff\xfb\x01", b"\xff\xfa", b"\xff\xf0",
            b"\xff\xff", b"\0", b"*-1\r\n", b"$-5\r\n", b"POST ",
        ])
        .prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(Just(b'y'), 0..1200),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// Requests as clients send them.
fn any_request() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..6)
}

proptest! {
    /// Rule: it does not matter in which pieces bytes come, and no bytes make it panic or keep too much.
    #[test]
    fn any_cut_gives_the_same_requests(bytes in any_bytes(), cuts in prop::collection::vec(1usize..30, 1..10)) {
        let whole = split([&bytes[..]]);
        let mut rest = &bytes[..];
        let mut pieces = vec![];
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(split(pieces), whole);
    }

    /// Rule: what another implementation of RESP encodes is understood as it meant it.
    #[test]
    fn understands_what_another_encoder_writes(requests in prop::collection::vec(any_request(), 0..10)) {
        let mut bytes = vec![];
        for request in &requests {
            let frame = OwnedFrame::Array(request.iter().cloned().map(OwnedFrame::BulkString).collect());
            let start = bytes.len();
            bytes.resize(start + frame.encode_len(false), 0);
            encode::encode(&mut bytes[start..], &frame, false).unwrap();
        }
        let expected: Vec<Seen> =
            requests.into_iter().map(|request| Seen::Request(Form::Array, request)).collect();
        prop_assert_eq!(split([&bytes[..]]), expected);
    }

    /// Rule: what we take for an array of bulk strings, another decoder takes for the same.
    #[test]
    fn another_decoder_agrees(bytes in any_bytes()) {
        let Some(Seen::Request(Form::Array, arguments)) = split([&bytes[..]]).into_iter().next() else {
            return Ok(());
        };
        let from = bytes.windows(2).position(|window| window[0] == b'*' && window[1] != b'0' && window[1] != b'-');
        let Some(Ok(Some((OwnedFrame::Array(frames), _)))) = from.map(|from| decode::decode(&bytes[from..])) else {
            return Ok(()); // something stood before the array
        };
        let theirs: Vec<_> = frames.into_iter().map(|frame| match frame {
            OwnedFrame::BulkString(bytes) => bytes,
            other => panic!("an array of {other:?}"),
        }).collect();
        prop_assert_eq!(arguments, theirs);
    }
}
