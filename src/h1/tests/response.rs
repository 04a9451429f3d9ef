use super::*;

fn head(bytes: &[u8]) -> (ResponseHead, &[u8]) {
    match read_response(bytes, &Limits::default()) {
        Ok(Some((head, used))) => (head, &bytes[used..]),
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

#[test]
fn the_method_of_a_request_is_case_sensitive() {
    assert_eq!(MethodKind::of(b"HEAD"), MethodKind::Head);
    assert_eq!(MethodKind::of(b"CONNECT"), MethodKind::Connect);
    for method in [&b"head"[..], b"Head", b"connect", b"GET", b""] {
        assert_eq!(MethodKind::of(method), MethodKind::Ordinary);
    }
}

#[test]
fn a_status_code_is_between_100_and_599() {
    for (code, is_code) in
        [(0, false), (99, false), (100, true), (599, true), (600, false), (u16::MAX, false)]
    {
        assert_eq!(StatusCode::new(code).map(StatusCode::as_u16), is_code.then_some(code));
    }
    for (code, is_interim, is_success) in
        [(199, true, false), (200, false, true), (299, false, true), (300, false, false)]
    {
        let status = StatusCode::new(code).unwrap();
        assert_eq!((status.is_interim(), status.is_success()), (is_interim, is_success));
    }
}

#[test]
fn a_reason_phrase_is_encoded_as_it_was_read() {
    for reason in [&b""[..], b"OK", b" two\tblanks ", b"\xff obs-text"] {
        let bytes = [b"HTTP/1.1 200 ", reason, b"\r\nX: y\r\n\r\n"].concat();
        let (parsed, _) = head(&bytes);
        assert_eq!(parsed.reason(), reason);
        let mut out = Vec::new();
        parsed.encode(&mut out);
        assert_eq!(out, bytes);
    }
}

/// A head that never ends is refused at the limit, so that the memory for it is bounded, too.
#[test]
fn a_response_head_at_its_limit_is_accepted_and_one_byte_more_is_not() {
    let limits = Limits { response_head: 80, ..Limits::default() };
    for (length, fits) in [(79, true), (80, true), (81, false), (300, false)] {
        let fixed = b"HTTP/1.1 200 OK\r\nX: ";
        let bytes = [&fixed[..], &vec![b'x'; length - fixed.len() - 4], b"\r\n\r\n"].concat();
        match read_response(&bytes, &limits) {
            Ok(Some((_, used))) => assert!(fits && used == length),
            other => {
                assert_eq!(other, Err(ParseError { fault: LimitError::Head.into(), at: 80 }));
                assert!(!fits);
            }
        }
    }
    let reason = [b"HTTP/1.1 200 ", &[b'x'; 100][..]].concat();
    let error = read_response(&reason, &limits).unwrap_err();
    assert_eq!(error, ParseError { fault: LimitError::Head.into(), at: 80 });
    assert_eq!(error.status_hint(Side::Upstream), 502);
    let lines = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(129));
    let error = ResponseHeadReader::new(&Limits::default()).read(lines.as_bytes()).unwrap_err();
    assert_eq!(error.fault, LimitError::Fields.into());
}

#[test]
fn a_reader_reads_an_interim_response_and_then_the_final_one() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\ndata";
    let mut reader = ResponseHeadReader::new(&Limits::default());
    let (interim, used) = reader.read(bytes).unwrap().unwrap();
    assert!(interim.status().is_interim());
    let (switch, more) = reader.read(&bytes[used..]).unwrap().unwrap();
    assert_eq!(switch.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(&bytes[used + more..], b"data");
}
