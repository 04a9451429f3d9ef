use super::*;

fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.push(FieldLine::new(*name, *value).unwrap());
    }
    fields
}

#[test]
fn list_members_span_lines_and_empty_ones_are_skipped() {
    let fields = fields(&[("Connection", "close ,, X-A"), ("connection", "\tUpgrade,"), ("Upgrade", "tcp")]);
    let members: Vec<_> = fields.members("CONNECTION").collect();
    assert_eq!(members, [&b"close"[..], b"X-A", b"Upgrade"]);
    assert!(fields.has_token("Connection", "upgrade"));
    assert!(!fields.has_token("Connection", "upgrad"));
    assert!(!fields.has_token("Upgrade", ""));
    assert!(!fields.has_token("X", "tcp"));
}

#[test]
fn field_lines_keep_their_order_and_spelling() {
    let mut fields = fields(&[("b", "1"), ("A", " 2\t"), ("B", "")]);
    assert_eq!(fields.values("B").collect::<Vec<_>>(), [&b"1"[..], b""]);
    assert!(fields.contains("a") && !fields.contains("c"));
    let mut out = Vec::new();
    fields.encode(&mut out);
    assert_eq!(out, b"b: 1\r\nA: 2\r\nB: \r\n");
    fields.retain(|line| !line.is("B"));
    assert_eq!((fields.len(), fields.is_empty()), (1, false));
}

#[test]
fn a_field_line_that_would_break_out_is_refused() {
    let error = |name: &'static str, value: &'static str| FieldLine::new(name, value).unwrap_err();
    assert_eq!(error("", "v"), PeerError::FieldNameEmpty);
    assert_eq!(error("a b", "v"), PeerError::FieldNameByte);
    assert_eq!(error("a:", "v"), PeerError::FieldNameByte);
    assert_eq!(error("a\r\nb", "v"), PeerError::FieldNameByte);
    assert_eq!(error("a", "v\r\nb: c"), PeerError::FieldValueByte);
    assert_eq!(error("a", "v\n"), PeerError::FieldValueByte);
    assert_eq!(error("a", "\0"), PeerError::FieldValueByte);
}

#[test]
fn a_parse_error_shows_its_cause_and_offset() {
    let error = ParseError { fault: PeerError::BareLf.into(), at: 14 };
    assert_eq!(error.to_string(), "a line ends in LF without CR (at byte 14)");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), PeerError::BareLf.to_string());
    let error = ParseError { fault: LimitError::Fields.into(), at: 0 };
    assert_eq!((error.status_hint(Side::Downstream), error.status_hint(Side::Upstream)), (431, 502));
}
