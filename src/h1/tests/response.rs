use super::*;

fn head(bytes: &[u8]) -> (ResponseHead, &[u8]) {
    match read_response(bytes, &Limits::default()) {
        Ok(Some((head, used))) => (head, &bytes[used..]),
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

fn refused_response(bytes: &[u8]) -> PeerError {
    let error = match read_response(bytes, &Limits::default()) {
        Ok(Some((head, _))) => framing(MethodKind::Ordinary, &head).unwrap_err(),
        Err(ParseError { fault: Fault::Peer(error), .. }) => error,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    };
    assert_eq!(error.status_hint(Side::Upstream), 502);
    error
}

fn framing(request: MethodKind, head: &ResponseHead) -> Result<BodyFraming, PeerError> {
    response_framing(request, head.version, head.status(), &head.fields)
}

/// Returns the framing of a response with this status and these field lines.
fn framing_of(request: MethodKind, status: u16, lines: &str) -> Result<BodyFraming, PeerError> {
    let bytes = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
    framing(request, &head(bytes.as_bytes()).0)
}

#[test]
fn resp_te_and_cl() {
    assert_eq!(
        framing_of(MethodKind::Ordinary, 200, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        Err(PeerError::AmbiguousFraming)
    );
    assert_eq!(
        refused_response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        PeerError::TransferCodingInHttp10
    );
    assert_eq!(
        framing_of(MethodKind::Ordinary, 200, "Transfer-Encoding: gzip, chunked\r\n"),
        Err(PeerError::UnsupportedTransferCoding)
    );
    assert_eq!(
        framing_of(MethodKind::Ordinary, 200, "Transfer-Encoding: gzip\r\n"),
        Err(PeerError::TransferCodingInvalid)
    );
}

#[test]
fn resp_cl_bad() {
    for (value, error) in [
        ("-1", PeerError::ContentLengthInvalid),
        ("5,6", PeerError::ContentLengthInvalid),
        ("", PeerError::ContentLengthInvalid),
        ("9223372036854775808", PeerError::ContentLengthTooLarge),
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        assert_eq!(framing_of(MethodKind::Ordinary, 200, &lines), Err(error));
    }
}

#[test]
fn resp_cl_twice() {
    for second in ["5", "6"] {
        let lines = format!("Content-Length: 5\r\nContent-Length: {second}\r\n");
        assert_eq!(framing_of(MethodKind::Ordinary, 200, &lines), Err(PeerError::ContentLengthRepeated));
    }
}

#[test]
fn resp_extra_after_cl() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (parsed, rest) = head(bytes);
    assert_eq!(framing(MethodKind::Ordinary, &parsed), Ok(BodyFraming::Length(2)));
    assert_eq!(&rest[..10], b"okHTTP/1.1");
}

#[test]
fn resp_head_body() {
    for lines in [
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "",
    ] {
        assert_eq!(framing_of(MethodKind::of(b"HEAD"), 200, lines), Ok(BodyFraming::Empty));
    }
    assert_eq!(framing_of(MethodKind::of(b"head"), 200, ""), Ok(BodyFraming::CloseDelimited));
}

#[test]
fn resp_204_304_body() {
    for status in [100, 101, 103, 199, 204, 304] {
        for lines in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: x\r\n", ""]
        {
            assert_eq!(framing_of(MethodKind::Ordinary, status, lines), Ok(BodyFraming::Empty));
        }
    }
    for status in [200, 203, 205, 303, 305, 404] {
        assert_eq!(
            framing_of(MethodKind::Ordinary, status, "Content-Length: 5\r\n"),
            Ok(BodyFraming::Length(5))
        );
    }
}

#[test]
fn resp_connect() {
    let connect = MethodKind::of(b"CONNECT");
    assert_eq!(framing_of(connect, 200, "Content-Length: 5\r\n"), Ok(BodyFraming::Empty));
    assert_eq!(framing_of(connect, 299, ""), Ok(BodyFraming::Empty));
    assert_eq!(framing_of(connect, 300, ""), Ok(BodyFraming::CloseDelimited));
    assert_eq!(framing_of(connect, 407, "Content-Length: 5\r\n"), Ok(BodyFraming::Length(5)));
}

#[test]
fn resp_close_delimited() {
    assert_eq!(framing_of(MethodKind::Ordinary, 200, ""), Ok(BodyFraming::CloseDelimited));
    let (parsed, rest) = head(b"HTTP/1.0 200 OK\r\n\r\nbody");
    assert_eq!(framing(MethodKind::Ordinary, &parsed), Ok(BodyFraming::CloseDelimited));
    assert_eq!(rest, b"body");
}

#[test]
fn resp_chunked() {
    assert_eq!(
        framing_of(MethodKind::Ordinary, 200, "Transfer-Encoding: Chunked\r\n"),
        Ok(BodyFraming::Chunked)
    );
}

#[test]
fn resp_status_bad() {
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 200x",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 200\tOK",
    ] {
        assert_eq!(refused_response(format!("{line}\r\n\r\n").as_bytes()), PeerError::StatusCode, "{line}");
    }
    for status in [100, 599] {
        let bytes = format!("HTTP/1.1 {status} X\r\n\r\n");
        assert_eq!(head(bytes.as_bytes()).0.status().as_u16(), status);
    }
}

#[test]
fn status_codes_have_three_digits() {
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
fn resp_version_bad() {
    for line in ["HTTP/1.2 200 OK", "HTTP/2 200", "http/1.1 200 OK", "ICY 200 OK", " HTTP/1.1 200 OK", ""] {
        let error = refused_response(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!(error, PeerError::UnsupportedVersion, "{line}");
    }
    assert_eq!(refused_response(b"HTTP/1.1\t200 OK\r\n\r\n"), PeerError::UnsupportedVersion);
}

#[test]
fn resp_reason() {
    assert_eq!(refused_response(b"HTTP/1.1 200\r\n\r\n"), PeerError::ReasonSpace);
    assert_eq!(refused_response(b"HTTP/1.1 200 a\0b\r\n\r\n"), PeerError::ReasonByte);
    for reason in [&b""[..], b"OK", b" two\tblanks ", b"\xff obs-text"] {
        let bytes = [b"HTTP/1.1 200 ", reason, b"\r\nX: y\r\n\r\n"].concat();
        let (parsed, _) = head(&bytes);
        assert_eq!(parsed.reason(), reason);
        let mut out = Vec::new();
        parsed.encode(&mut out);
        assert_eq!(out, bytes);
    }
}

#[test]
fn resp_lf() {
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\nX: y\r\n\r\n"), PeerError::BareLf);
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\r\nX: y\n\r\n"), PeerError::BareLf);
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\r\nX: y\r\n\n"), PeerError::BareLf);
    assert_eq!(refused_response(b"HTTP/1.1 200 O\rK\r\n\r\n"), PeerError::BareCr);
}

#[test]
fn resp_fold() {
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n"), PeerError::ObsoleteFold);
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n"), PeerError::BlankBeforeFields);
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n"), PeerError::FieldNameBlank);
}

#[test]
fn resp_ctl() {
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\r\nX: y\0z\r\n\r\n"), PeerError::FieldValueByte);
    assert_eq!(refused_response(b"HTTP/1.1 200 OK\r\nX\0: y\r\n\r\n"), PeerError::FieldNameByte);
}

#[test]
fn resp_no_fields() {
    let (parsed, rest) = head(b"HTTP/1.1 400 Bad Request\r\n\r\nnot websocket protocol");
    assert!(parsed.fields.is_empty());
    assert_eq!(rest, b"not websocket protocol");
}

/// A head that never ends is refused at the bound: what has to be kept until then is bounded too.
#[test]
fn resp_head_huge() {
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
fn resp_interim_then_final() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\ndata";
    let mut reader = ResponseHeadReader::new(&Limits::default());
    let (interim, used) = reader.read(bytes).unwrap().unwrap();
    assert!(interim.status().is_interim());
    let (switch, more) = reader.read(&bytes[used..]).unwrap().unwrap();
    assert_eq!(switch.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(&bytes[used + more..], b"data");
}
