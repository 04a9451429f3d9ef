use super::*;

const FINE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn h1_te_and_cl() {
    assert_eq!(
        refused_post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        PeerError::AmbiguousFraming
    );
    assert_eq!(
        refused_post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
        PeerError::AmbiguousFraming
    );
    assert_eq!(
        refused_post(b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n"),
        PeerError::AmbiguousFraming
    );
    assert_eq!(request_hint(PeerError::AmbiguousFraming), 400);
}

#[test]
fn h1_te_chunked_case() {
    for value in ["chunked", "ChUnKeD", "CHUNKED", " \t chunked \t"] {
        let line = format!("transfer-ENCODING:{value}\r\n");
        assert_eq!(framing_of_post(line.as_bytes()), BodyFraming::Chunked);
    }
}

#[test]
fn h1_te_twice() {
    assert_eq!(
        refused_post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        PeerError::TransferCodingRepeated
    );
}

#[test]
fn h1_te_chunked_identity() {
    let refused = |value: &str| refused_post(format!("Transfer-Encoding: {value}\r\n").as_bytes());
    assert_eq!(refused("chunked, identity"), PeerError::TransferCodingInvalid);
    assert_eq!(refused("identity, chunked"), PeerError::UnsupportedTransferCoding);
    assert_eq!(refused("gzip,chunked"), PeerError::UnsupportedTransferCoding);
    assert_eq!(refused("gzip, chunked, chunked"), PeerError::TransferCodingInvalid);
    assert_eq!(refused("chunked, gzip, chunked"), PeerError::TransferCodingInvalid);
    assert_eq!(request_hint(PeerError::TransferCodingInvalid), 400);
    assert_eq!(request_hint(PeerError::UnsupportedTransferCoding), 501);
}

#[test]
fn h1_te_comma_edges() {
    for value in [",chunked", "chunked,", "", ",", "chunked,,chunked", "gzip,,chunked"] {
        let line = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(refused_post(line.as_bytes()), PeerError::TransferCodingInvalid, "{value}");
    }
}

#[test]
fn h1_te_params_quotes() {
    for value in ["chunked;q=1", "\"chunked\"", "x chunked", "xchunked", "chunke", "gzip", "chunked\tx"] {
        let line = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(refused_post(line.as_bytes()), PeerError::TransferCodingInvalid, "{value}");
    }
}

#[test]
fn h1_te_ctl() {
    for value in [&b"\x0bchunked"[..], b"chunked\x0c", b"\x00chunked"] {
        let line = [b"Transfer-Encoding: ", value, b"\r\n"].concat();
        assert_eq!(refused_post(&line), PeerError::FieldValueByte);
    }
    for value in [&b"\x85chunked"[..], b"\xa0chunked", b"chunked\xa0"] {
        let line = [b"Transfer-Encoding: ", value, b"\r\n"].concat();
        assert_eq!(refused_post(&line), PeerError::TransferCodingInvalid);
    }
}

#[test]
fn h1_te_fold() {
    assert_eq!(refused_post(b"Transfer-Encoding:\r\n chunked\r\n"), PeerError::ObsoleteFold);
}

#[test]
fn h1_te_space_colon() {
    assert_eq!(
        refused_post(b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n"),
        PeerError::FieldNameBlank
    );
}

#[test]
fn h1_te_10() {
    assert_eq!(
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        PeerError::TransferCodingInHttp10
    );
}

#[test]
fn h1_te_underscore() {
    let lines = b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n";
    assert_eq!(framing_of_post(lines), BodyFraming::Length(5));
}

#[test]
fn h1_cl_twice_same() {
    assert_eq!(refused_post(b"Content-Length: 5\r\ncontent-length: 5\r\n"), PeerError::ContentLengthRepeated);
}

#[test]
fn h1_cl_twice_diff() {
    assert_eq!(
        refused_post(b"Content-Length: 5\r\nX: y\r\nContent-Length: 6\r\n"),
        PeerError::ContentLengthRepeated
    );
}

#[test]
fn h1_cl_list() {
    assert_eq!(refused_post(b"Content-Length: 5, 5\r\n"), PeerError::ContentLengthInvalid);
}

#[test]
fn h1_cl_syntax() {
    for value in ["", "+5", "-0", "0x5", "5_0", "5 5", "5;", "٥", "5,5", "5.0", "five"] {
        let line = format!("Content-Length: {value}\r\n");
        assert_eq!(refused_post(line.as_bytes()), PeerError::ContentLengthInvalid, "{value}");
    }
    assert_eq!(refused_post(b"Content-Length: 5\x00\r\n"), PeerError::FieldValueByte);
}

#[test]
fn h1_cl_leading_zero() {
    assert_eq!(refused_post(b"Content-Length: 005\r\n"), PeerError::ContentLengthInvalid);
    assert_eq!(refused_post(b"Content-Length: 00\r\n"), PeerError::ContentLengthInvalid);
    assert_eq!(framing_of_post(b"Content-Length: 0\r\n"), BodyFraming::Length(0));
    assert_eq!(framing_of_post(b"Content-Length: 10\r\n"), BodyFraming::Length(10));
}

#[test]
fn h1_cl_huge() {
    let line = |digits: &str| format!("Content-Length: {digits}\r\n").into_bytes();
    assert_eq!(framing_of_post(&line("9223372036854775806")), BodyFraming::Length((1 << 63) - 2));
    assert_eq!(framing_of_post(&line("9223372036854775807")), BodyFraming::Length((1 << 63) - 1));
    for digits in ["9223372036854775808", "18446744073709551616", "18446744073709551621", &"9".repeat(400)] {
        assert_eq!(refused_post(&line(digits)), PeerError::ContentLengthTooLarge, "{digits}");
    }
}

#[test]
fn h1_cl_get_body() {
    let bytes =
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (head, rest) = accepted(bytes);
    assert_eq!(request_framing(head.version, &head.fields), Ok(BodyFraming::Length(5)));
    assert_eq!(accepted(&rest[5..]).0.target().as_bytes(), b"/2");
}

#[test]
fn h1_no_length_post() {
    assert_eq!(framing_of_post(b""), BodyFraming::Empty);
}

#[test]
fn h1_10_no_length_body() {
    let (head, rest) = accepted(b"POST / HTTP/1.0\r\n\r\nbody");
    assert_eq!(request_framing(head.version, &head.fields), Ok(BodyFraming::Empty));
    assert_eq!(rest, b"body");
}

#[test]
fn h1_lf_line_end() {
    assert_eq!(refused(b"GET / HTTP/1.1\nHost: a\n\n"), PeerError::BareLf);
}

#[test]
fn h1_lf_mixed() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), PeerError::BareLf);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: a\n\r\n"), PeerError::BareLf);
    assert_eq!(refused(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), PeerError::BareLf);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost\n"), PeerError::BareLf);
    assert_eq!(refused(b"GET /\n"), PeerError::BareLf);
}

#[test]
fn h1_cr_bare_value() {
    assert_eq!(refused_post(b"X: a\rb\r\n"), PeerError::BareCr);
    assert_eq!(refused_post(b"X: a\r\n\rX"), PeerError::BareCr);
    assert_eq!(refused_post(b"X: a\r\r\n"), PeerError::BareCr);
    assert_eq!(refused(b"GET / HTTP/1.1\rHost: a\r\n\r\n"), PeerError::BareCr);
}

#[test]
fn h1_nul_ctl_value() {
    for byte in (0..=0x1f).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        for value in [&[byte][..], &[b'a', byte], &[byte, b'a'], &[b'a', byte, b'a']] {
            let line = [b"X: ", value, b"\r\n"].concat();
            assert_eq!(refused_post(&line), PeerError::FieldValueByte, "{byte:#x}");
        }
    }
    assert_eq!(accepted(&post(b"X: a\tb\r\n")).0.fields.values("x").next(), Some(&b"a\tb"[..]));
}

#[test]
fn h1_obs_text_value() {
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
fn h1_name_bytes() {
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
fn h1_name_empty() {
    assert_eq!(refused_post(b": x\r\n"), PeerError::FieldNameEmpty);
}

#[test]
fn h1_no_colon() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost\r\n\r\n"), PeerError::FieldColon);
    assert_eq!(refused_post(b"GET / HTTP/1.1\r\n"), PeerError::FieldNameBlank);
}

#[test]
fn h1_ws_first_field() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"), PeerError::BlankBeforeFields);
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"), PeerError::BlankBeforeFields);
}

#[test]
fn h1_obs_fold() {
    assert_eq!(refused_post(b"X: a\r\n b\r\n"), PeerError::ObsoleteFold);
    assert_eq!(refused_post(b"X: a\r\n\tb\r\n"), PeerError::ObsoleteFold);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n"), PeerError::ObsoleteFold);
}

#[test]
fn h1_crlf_before_one_two() {
    let with = |front: &[u8]| [front, FINE].concat();
    assert_eq!(accepted(&with(b"\r\n")).0, accepted(FINE).0);
    assert_eq!(refused(&with(b"\r\n\r\n")), PeerError::ExtraEmptyLine);
    assert_eq!(refused(&with(b"\n")), PeerError::BareLf);
    assert_eq!(refused(&with(b"\r\n\n")), PeerError::BareLf);
    assert_eq!(refused(&with(b"\r")), PeerError::BareCr);
}

#[test]
fn h1_request_line_spaces() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET / ",
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP /1.1",
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        let error = refused(bytes.as_bytes());
        assert_eq!((error, request_hint(error)), (PeerError::RequestLineBlank, 400), "{line}");
    }
}

#[test]
fn h1_version() {
    for version in
        ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.10", "HTTP/01.1", "http/1.1", "HTTP/1,1", "HTTP/1."]
    {
        let error = refused(format!("GET / {version}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!((error, request_hint(error)), (PeerError::UnsupportedVersion, 505), "{version}");
    }
    assert_eq!(accepted(FINE).0.version, Version::Http11);
    assert_eq!(accepted(b"GET / HTTP/1.0\r\n\r\n").0.version, Version::Http10);
}

#[test]
fn h1_simple_request() {
    assert_eq!(refused(b"GET /\r\n"), PeerError::RequestLineShort);
    assert_eq!(refused(b"GET\r\n"), PeerError::RequestLineShort);
    assert_eq!(refused(b"GET \r\n"), PeerError::RequestLineShort);
}

#[test]
fn h1_h2_preface() {
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0"), PeerError::UnsupportedVersion);
}

#[test]
fn h1_method_token() {
    let method = |bytes: &[u8]| [bytes, b" / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    assert_eq!(refused(&method(b"G(T")), PeerError::MethodByte);
    assert_eq!(refused(&method(b"GET\0")), PeerError::MethodByte);
    assert_eq!(refused(&method(b"G\xc3T")), PeerError::MethodByte);
    assert_eq!(refused(&method(b"")), PeerError::RequestLineBlank);
    assert_eq!(refused(&method(&[b'M'; 33])), PeerError::MethodTooLong);
    assert_eq!(accepted(&method(&[b'M'; 32])).0.method(), [b'M'; 32]);
    assert_eq!(accepted(&method(b"get")).0.method(), b"get");
}

#[test]
fn h1_target_bytes() {
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

/// curl sends the target as it is given, and dockerd accepts it.
#[test]
fn a_query_may_be_utf8() {
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
    assert_eq!(refused(b"CONNECT h?\xc3\xa9:1 HTTP/1.1\r\nHost: h\r\n\r\n"), PeerError::TargetAuthority);
}

#[test]
fn h1_target_forms() {
    let refused_target = |method: &str, target: &str| {
        refused(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
    };
    for target in ["foo", "http:/x", "*", "ftp://h/", "h:80", "http:h", "?q"] {
        assert_eq!(refused_target("GET", target), PeerError::TargetForm, "{target}");
    }
    assert_eq!(refused_target("options", "*"), PeerError::TargetForm);
    assert_eq!(refused_target("OPTIONS", "**"), PeerError::TargetForm);
    for target in ["http://u@h/", "http://h:0/", "http:///x", "http://h:/", "http://h:65536/", "https://"] {
        assert_eq!(refused_target("GET", target), PeerError::TargetAuthority, "{target}");
    }
    for target in ["h", "/", "http://h/", "h:0", ":80", "u@h:80", "*"] {
        assert_eq!(refused_target("CONNECT", target), PeerError::TargetAuthority, "{target}");
    }
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
fn h1_absolute_form() {
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
    assert_eq!(refused(&request("GET", "http://a/x", "b")), PeerError::TargetHostMismatch);
    assert_eq!(refused(&request("GET", "http://a:80/x", "a")), PeerError::TargetHostMismatch);
    let opaque = request("GET", "http://a/x", "");
    let error = read_request(&opaque, &Limits::default(), HostPolicy::Opaque).unwrap_err();
    assert_eq!(error.fault, PeerError::TargetHostMismatch.into());
}

#[test]
fn h1_host_missing() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n"), PeerError::HostMissing);
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), PeerError::HostMissing);
    let bare = b"GET / HTTP/1.1\r\n\r\n";
    let error = read_request(bare, &Limits::default(), HostPolicy::Opaque).unwrap_err();
    assert_eq!(error, ParseError { fault: PeerError::HostMissing.into(), at: 18 });
}

#[test]
fn h1_host_twice() {
    for hosts in [HostPolicy::Strict, HostPolicy::Opaque] {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: a\r\n\r\n";
        let error = read_request(bytes, &Limits::default(), hosts).unwrap_err();
        assert_eq!(error, ParseError { fault: PeerError::HostRepeated.into(), at: 31 });
    }
}

#[test]
fn h1_host_list() {
    for hosts in [HostPolicy::Strict, HostPolicy::Opaque] {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a,b\r\n\r\n";
        let error = read_request(bytes, &Limits::default(), hosts).unwrap_err();
        assert_eq!(error, ParseError { fault: PeerError::HostInvalid.into(), at: 18 });
    }
}

#[test]
fn h1_host_bad() {
    let with_host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    for host in [
        "a b",
        "a:99999",
        "a:65536",
        "a:0",
        "[::1",
        "a/b",
        "a@b",
        "",
        ":80",
        "a:",
        "a:8x",
        "a:+1",
        "[::1]x",
        "::1",
        "[::g]",
        "[fe80::1%25eth0]",
        "[]",
        "a%2eb",
        "ä",
        "a:000080",
    ] {
        assert_eq!(refused(&with_host(host)), PeerError::HostInvalid, "{host}");
    }
    for host in ["a", "A.b-c_d~", "127.0.0.1:80", "[::1]", "[::ffff:1.2.3.4]:65535", "a:1", "a:080"] {
        accepted(&with_host(host));
    }
    for host in ["", "d", "docker", "api.moby.localhost", "h:2375", "%2Fvar%2Frun%2Fdocker.sock", "a/b", "::"]
    {
        let bytes = with_host(host);
        let read = read_request(&bytes, &Limits::default(), HostPolicy::Opaque);
        assert!(matches!(read, Ok(Some(_))), "{host}");
    }
    for host in ["a b", "ä", "a\tb"] {
        let bytes = with_host(host);
        let error = read_request(&bytes, &Limits::default(), HostPolicy::Opaque).unwrap_err();
        assert_eq!(error.fault, PeerError::HostInvalid.into(), "{host}");
    }
}

#[test]
fn h1_host_10() {
    assert!(!accepted(b"GET / HTTP/1.0\r\n\r\n").0.fields.contains("Host"));
    accepted(b"GET http://a/ HTTP/1.0\r\n\r\n");
    assert_eq!(refused(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), PeerError::HostInvalid);
}

#[test]
fn h1_pipeline_two() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nGET";
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    let (first, used) = reader.read(bytes).unwrap().unwrap();
    let (second, more) = reader.read(&bytes[used..]).unwrap().unwrap();
    assert_eq!((first.target().as_bytes(), second.target().as_bytes()), (&b"/1"[..], &b"/2"[..]));
    assert_eq!(reader.read(&bytes[used + more..]), Ok(None));
    assert_eq!(&bytes[used + more..], b"GET");
}

#[test]
fn h1_pipeline_bad_second() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01";
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    let (_, used) = reader.read(bytes).unwrap().unwrap();
    let error = ParseError { fault: PeerError::MethodByte.into(), at: 0 };
    assert_eq!(reader.read(&bytes[used..]), Err(error));
}

#[test]
fn h1_after_400_silence() {
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    let error = reader.read(b"GET / HTTP/1.1\n").unwrap_err();
    assert_eq!(error, ParseError { fault: PeerError::BareLf.into(), at: 14 });
    assert_eq!(reader.read(FINE), Err(error));
    assert_eq!(reader.read(b""), Err(error));
}

/// Each byte is looked at once before the end is there: all others of a call are replaced by bytes
/// that would be refused if they were looked at again.
#[test]
fn h1_quadratic() {
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
fn h1_expect_100() {
    let (head, _) = accepted(&post(b"Expect: 100-Continue\r\nContent-Length: 5\r\n"));
    assert!(head.expects_continue());
    assert!(!accepted(&post(b"Content-Length: 5\r\n")).0.expects_continue());
    assert!(!accepted(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").0.expects_continue());
}

#[test]
fn h1_expect_other() {
    for value in ["x", "", "100-continue, x", "100-continue;x", "100"] {
        let error = refused_post(format!("Expect: {value}\r\n").as_bytes());
        assert_eq!((error, request_hint(error)), (PeerError::UnsupportedExpectation, 417), "{value}");
    }
    assert_eq!(refused_post(b"Expect: 100-continue\r\nExpect: x\r\n"), PeerError::UnsupportedExpectation);
    accepted(b"POST / HTTP/1.0\r\nExpect: x\r\n\r\n");
}

#[test]
fn h1_max_line() {
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
fn h1_max_head() {
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
fn h1_max_fields() {
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
