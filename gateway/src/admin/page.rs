#![forbid(unsafe_code)]
//! The live page: static files, which ask for the JSON of the admin listener.
//!
//! What the page shows comes from containers and clients, and is hostile. Its script gives text to
//! `textContent` only, and the policy lets nothing run or load but the files here.

use dockline::h1::FieldLine;
use dockline::proxy::Reply;

/// A file of the page.
struct File {
    path: &'static [u8],
    content_type: &'static str,
    content: &'static str,
}

const FILES: [File; 3] = [
    File { path: b"/", content_type: "text/html; charset=utf-8", content: include_str!("page/page.html") },
    File {
        path: b"/page.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("page/page.css"),
    },
    File {
        path: b"/page.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("page/page.js"),
    },
];

/// Fields of each response, so that a browser runs only what is meant to run, and in no frame of
/// another page.
const FIELDS: [(&str, &str); 4] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    // A new version of the program has a new page.
    ("Cache-Control", "no-cache"),
];

/// Returns the file of the page at a path; `None`: there is none.
pub(super) fn file(path: &[u8]) -> Option<Reply> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let reply = Reply::new(200, file.content_type, file.content);
    Some(FIELDS.iter().fold(reply, |reply, (name, value)| match FieldLine::new(*name, *value) {
        Ok(line) => reply.with_field(line),
        Err(_) => reply,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_outside_and_writes_no_markup() {
        let html = FILES[0].content;
        for needle in ["http:", "https:", "//", "<style", " style=", "onclick"] {
            assert!(!html.contains(needle), "{needle}");
        }
        for file in &FILES[1..] {
            let path = std::str::from_utf8(file.path).unwrap().trim_start_matches('/');
            assert!(html.contains(&format!("\"{path}\"")), "{path}");
            for needle in [
                "http:",
                "https:",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "url(",
            ] {
                assert!(!file.content.contains(needle), "{path}: {needle}");
            }
        }
    }

    #[test]
    fn each_file_has_the_policy() {
        for file in &FILES {
            let shown = format!("{:?}", super::file(file.path).unwrap());
            for (name, value) in FIELDS {
                let line = format!("{name}: {value}").replace('\'', "\\'");
                assert!(shown.contains(&line), "{name}: {shown}");
            }
        }
        assert!(file(b"/other").is_none());
    }
}
