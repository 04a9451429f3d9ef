//! Objects out of a stream, wherever its pieces begin and end.

use crate::json_sequence::{Item, JsonSequence, NotASequence};

/// Returns what is found in a text that comes in pieces of that many bytes.
fn found(text: &str, piece: usize, max: usize) -> Result<Vec<String>, NotASequence> {
    let mut sequence = JsonSequence::new(max);
    let mut all = Vec::new();
    for mut input in text.as_bytes().chunks(piece) {
        while let Some(item) = sequence.next(&mut input)? {
            all.push(match item {
                Item::Object(text) => String::from_utf8(text).unwrap(),
                Item::Oversized => "oversized".to_owned(),
            });
        }
    }
    Ok(all)
}

#[test]
fn objects_are_found_in_each_form_of_a_stream() {
    let objects = [r#"{"a":1}"#, r#"{"b":{"c":["}{",{}]}}"#, r#"{"d":"\"}\\"}"#, "{\"é\":\"\n\"}"];
    let forms = [
        objects.join(""),
        objects.join("\n"),
        objects.map(|object| format!("\x1e{object}\n")).concat(),
        objects.map(|object| format!(" \r\n{object}\t")).concat(),
    ];
    for text in forms {
        for piece in 1..=text.len() {
            assert_eq!(found(&text, piece, 1024).unwrap(), objects, "{text} by {piece}");
        }
    }
}

#[test]
fn an_object_that_is_too_long_is_left_out_and_the_next_one_is_found() {
    let text = r#"{"a":12}{"b":"{{{{{{"}{"c":34}"#;
    for piece in 1..=text.len() {
        assert_eq!(found(text, piece, 8).unwrap(), [r#"{"a":12}"#, "oversized", r#"{"c":34}"#]);
        assert_eq!(found(text, piece, 7).unwrap(), ["oversized"; 3]);
    }
}

#[test]
fn anything_but_objects_is_refused() {
    for text in ["x", "[1]", "\"a\"", "{}}", "{}1", "\0"] {
        assert_eq!(found(text, 1, 8), Err(NotASequence), "{text}");
    }
    let nested = |depth: usize| format!("{}{}", "{".repeat(depth), "}".repeat(depth));
    assert_eq!(found(&nested(128), 7, 1024).unwrap().len(), 1);
    assert_eq!(found(&nested(129), 7, 1024), Err(NotASequence));
}
