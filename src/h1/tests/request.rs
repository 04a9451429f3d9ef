use super::*;

const FINE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn control_characters_in_a_value_are_refused() {
    for byte in (0..=0x1f).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        for value in [&[byte][..], &[b'a', byte], &[byte, b'a'], &[b'a', byte, b'a']] {
            let line = [b"X: ", value, b"\r\n"].concat();
            assert_eq!(refused_post(&line), PeerError::FieldValueByte, "{byte:#x}");
        }
    }
    assert_eq!(accepted(&post(b"X: a\tb\r\n")).0.fields.values("x").next(), Some(&b"a\tb"[..]));
}

#[test]
fn bytes_above_0x7f_in_a_value_are_kept() {
    for byte in 0x80..=0xff {
        let value = [byte, b'a', byte];
        let bytes = post(&[b"X: ", &value[..], b"\r\n"].concat());
        let (head, _) = accepted(&bytes);
        assert_eq!(head.fields.values("X").collect::<Vec<_>>(), [&value]);
        let mut out = Vec::new();
        head.encode(&mut out);
        assert_eq!(out, bytes);
    }
}

#[test]
fn a_field_name_is_a_token() {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for byte in 0..=0xff_u8 {
        let line = [b"X", &[byte][..], b"Y: a\r\n"].concat();
        let start = [&[byte][..], b"Y: a\r\n"].concat();
        if is_token(byte) {
            assert_eq!(accepted(&post(&line)).0.fields.iter().nth(1).unwrap().name(), &line[..3]);
            accepted(&post(&start));
            continue;
        }
        let expected = match byte {
            b'\n' => PeerError::BareLf,
            b'\r' => PeerError::FieldColon,
            b' ' | b'\t' => PeerError::FieldNameBlank,
            b':' => continue,
            _ => PeerError::FieldNameByte,
        };
        assert_eq!(refused_post(&line), expected, "{byte:#x}");
        let expected = match byte {
            b'\r' => PeerError::BareCr,
            b' ' | b'\t' => PeerError::ObsoleteFold,
            _ => expected,
        };
        assert_eq!(refused_post(&start), expected, "{byte:#x} in front");
    }
}

#[test]
fn a_method_has_at_most_32_bytes() {
    let method = |bytes: &[u8]| [bytes, b" / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    assert_eq!(refused(&method(b"")), PeerError::RequestLineBlank);
    assert_eq!(refused(&method(&[b'M'; 33])), PeerError::MethodTooLong);
    assert_eq!(accepted(&method(&[b'M'; 32])).0.method(), [b'M'; 32]);
    assert_eq!(accepted(&method(b"get")).0.method(), b"get");
}

#[test]
fn a_target_is_visible_ascii_without_a_fragment() {
    for byte in 0..=0xff_u8 {
        for target in [&[b'/', byte][..], &[b'/', byte, b'x']] {
            let bytes = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            let expected = match byte {
                b'\n' => PeerError::BareLf,
                b'\r' => PeerError::RequestLineShort,
                b' ' | b'\t' => PeerError::RequestLineBlank,
                b'#' | 0..=0x1f | 0x7f.. => PeerError::TargetByte,
                _ => {
                    assert_eq!(accepted(&bytes).0.target().as_bytes(), target);
                    continue;
                }
            };
            assert_eq!(refused(&bytes), expected, "{byte:#x}");
        }
        if !byte.is_ascii_graphic() && !b"\r\n\t ".contains(&byte) {
            let bytes = [b"GET ", &[byte][..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            assert_eq!(refused(&bytes), PeerError::TargetByte, "{byte:#x} in front");
        }
    }
}

/// curl sends a query as it is given, and dockerd accepts it.
#[test]
fn a_query_may_hold_utf8() {
    let head = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    for character in
        ['\u{80}', 'é', '\u{7ff}', '\u{800}', '€', '\u{d7ff}', '\u{e000}', '\u{ffff}', '😀', '\u{10ffff}']
    {
        for target in [
            format!("/a?b={character}"),
            format!("/?{character}{character}x"),
            format!("http://a/?{character}"),
        ] {
            assert_eq!(accepted(&head(target.as_bytes())).0.target().as_bytes(), target.as_bytes());
        }
        for target in [format!("/a{character}?b"), format!("{character}?"), format!("/?{character}#")] {
            assert_eq!(refused(&head(target.as_bytes())), PeerError::TargetByte, "{target}");
        }
    }
    // Whatever the standard library does not take for UTF-8 is refused.
    for bytes in (0x80..=0xff_u8).flat_map(|first| (0..=0xff_u8).map(move |second| [first, second])) {
        for tail in [&b""[..], b"\x80", b"\x80\x80", b"\xbf\x7f"] {
            let target = [b"/?", &bytes[..], tail].concat();
            if std::str::from_utf8(&target)
                .is_ok_and(|text| !text.contains(char::is_control) && !text.contains([' ', '#']))
            {
                assert_eq!(accepted(&head(&target)).0.target().as_bytes(), target);
            } else if !target.iter().any(u8::is_ascii_control)
                && !target.contains(&b' ')
                && std::str::from_utf8(&target).is_err()
            {
                assert_eq!(refused(&head(&target)), PeerError::TargetByte, "{target:x?}");
            }
        }
    }
}

#[test]
fn a_target_has_a_form_and_parts() {
    let (head, _) = accepted(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
    assert_eq!(
        (head.target().form(), head.target().authority()),
        (TargetForm::Authority, Some(&b"h:443"[..]))
    );
    let (head, _) = accepted(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((head.target().form(), head.target().authority()), (TargetForm::Asterisk, None));
    let (head, _) = accepted(b"GET //x?y HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((head.target().form(), head.target().path_and_query()), (TargetForm::Origin, &b"//x?y"[..]));
}

#[test]
fn into_origin_form_rewrites_the_absolute_form() {
    let request = |method: &str, target: &str, host: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
    };
    for (method, target, sent) in [
        ("GET", "http://a/x", "/x"),
        ("GET", "HTTPS://A/x?y", "/x?y"),
        ("GET", "http://a", "/"),
        ("GET", "http://a?y=/z", "/?y=/z"),
        ("OPTIONS", "http://a", "*"),
        ("OPTIONS", "http://a/", "/"),
        ("OPTIONS", "http://a?y", "/?y"),
    ] {
        let bytes = request(method, target, "a");
        let (head, _) = accepted(&bytes);
        assert_eq!(head.target().form(), TargetForm::Absolute);
        let head = head.into_origin_form();
        let mut out = Vec::new();
        head.encode(&mut out);
        assert_eq!(out.escape_ascii().to_string(), request(method, sent, "a").escape_ascii().to_string());
        assert_eq!(accepted(&out).0, head);
    }
}

#[test]
fn a_reader_reads_pipelined_requests_one_by_one() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nGET";
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    let (first, used) = reader.read(bytes).unwrap().unwrap();
    let (second, more) = reader.read(&bytes[used..]).unwrap().unwrap();
    assert_eq!((first.target().as_bytes(), second.target().as_bytes()), (&b"/1"[..], &b"/2"[..]));
    assert_eq!(reader.read(&bytes[used + more..]), Ok(None));
    assert_eq!(&bytes[used + more..], b"GET");
}

#[test]
fn offsets_count_from_the_start_of_each_request() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01";
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    let (_, used) = reader.read(bytes).unwrap().unwrap();
    let error = ParseError { fault: PeerError::MethodByte.into(), at: 0 };
    assert_eq!(reader.read(&bytes[used..]), Err(error));
}

#[test]
fn an_error_is_final() {
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    let error = reader.read(b"GET / HTTP/1.1\n").unwrap_err();
    assert_eq!(error, ParseError { fault: PeerError::BareLf.into(), at: 14 });
    assert_eq!(reader.read(FINE), Err(error));
    assert_eq!(reader.read(b""), Err(error));
}

/// All bytes but the newest are replaced by ones that would be refused if they were scanned again.
#[test]
fn each_byte_is_scanned_once() {
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    head.resize(32 * 1024, b'X');
    head.extend_from_slice(b": ");
    head.resize(64 * 1024 - 4, b'y');
    head.extend_from_slice(b"\r\n\r\n");
    assert_eq!(head.len(), Limits::default().request_head);

    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    let mut masked = vec![0; head.len()];
    for end in 1..head.len() {
        masked[end - 1] = head[end - 1];
        assert_eq!(reader.read(&masked[..end]), Ok(None));
        masked[end - 1] = 0;
    }
    let (parsed, used) = reader.read(&head).unwrap().unwrap();
    assert_eq!((parsed.fields.len(), used), (2, head.len()));
}

#[test]
fn expects_continue_is_for_http_1_1_only() {
    let (head, _) = accepted(&post(b"Expect: 100-Continue\r\nContent-Length: 5\r\n"));
    assert!(head.expects_continue());
    assert!(!accepted(&post(b"Content-Length: 5\r\n")).0.expects_continue());
    assert!(!accepted(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").0.expects_continue());
}

#[test]
fn a_request_line_at_its_limit_is_accepted_and_one_byte_more_is_not() {
    let limits = Limits { request_line: 60, ..Limits::default() };
    for (length, fits) in [(59, true), (60, true), (61, false), (200, false)] {
        for front in [&b""[..], b"\r\n"] {
            let path = "x".repeat(length - "GET / HTTP/1.1".len());
            let bytes = [front, format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()].concat();
            let read = read_request(&bytes, &limits, HostPolicy::Strict);
            let at = (front.len() + 60) as u64;
            match read {
                Ok(Some((_, used))) => assert!(fits && used == bytes.len()),
                other => {
                    assert_eq!(other, Err(ParseError { fault: LimitError::RequestLine.into(), at }));
                    assert!(!fits);
                }
            }
        }
    }
    assert_eq!(LimitError::RequestLine.status_hint(Side::Downstream), 414);
    let endless = [b"GET /", &[b'x'; 100][..]].concat();
    let filled = Limits { request_head: 40, request_line: 60, ..Limits::default() };
    let error = read_request(&endless, &filled, HostPolicy::Strict).unwrap_err();
    assert_eq!(error, ParseError { fault: LimitError::RequestLine.into(), at: 40 });
}

#[test]
fn a_request_head_at_its_limit_is_accepted_and_one_byte_more_is_not() {
    let limits = Limits { request_head: 80, ..Limits::default() };
    for (length, fits) in [(79, true), (80, true), (81, false), (200, false)] {
        for front in [&b""[..], b"\r\n"] {
            let fixed = [front, b"GET / HTTP/1.1\r\nHost: a\r\nX: "].concat();
            let value = vec![b'x'; length - fixed.len() - 4];
            let bytes = [&fixed[..], &value, b"\r\n\r\n"].concat();
            match read_request(&bytes, &limits, HostPolicy::Strict) {
                Ok(Some((_, used))) => assert!(fits && used == length),
                other => {
                    assert_eq!(other, Err(ParseError { fault: LimitError::Head.into(), at: 80 }));
                    assert!(!fits);
                }
            }
        }
    }
    assert_eq!(LimitError::Head.status_hint(Side::Downstream), 431);
}

#[test]
fn as_many_fields_as_the_limit_are_accepted_and_one_more_is_not() {
    for (count, fits) in [(127, true), (128, true), (129, false), (1000, false)] {
        let lines = "X: y\r\n".repeat(count - 1);
        let bytes = post(lines.as_bytes());
        let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
        match reader.read(&bytes) {
            Ok(Some((head, _))) => assert!(fits && head.fields.len() == count),
            other => {
                let at = (b"POST / HTTP/1.1\r\nHost: a\r\n".len() + 127 * 6) as u64;
                assert_eq!(other, Err(ParseError { fault: LimitError::Fields.into(), at }));
                assert!(!fits);
            }
        }
    }
    assert_eq!(LimitError::Fields.status_hint(Side::Downstream), 431);
    let none = Limits { fields: 0, ..Limits::default() };
    assert!(matches!(read_request(b"GET / HTTP/1.0\r\n\r\n", &none, HostPolicy::Strict), Ok(Some(_))));
}
