#![forbid(unsafe_code)]
//! [`Pages`]: what the router replies itself. No reply names an upstream, or a host that was asked
//! for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use dockline::h1::FieldLine;
use dockline::proxy::Reply;
use dockline::untrusted::Untrusted;

use crate::problem::Problem;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The largest page.
const PAGE_MAX: u64 = 256 * 1024;

/// What the router says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Page {
    /// 404: no route for the host, or for the path.
    NotFound,
    /// 503: a route without a target now.
    Unavailable,
    /// 508: the request has been here before.
    Loop,
    /// 502: the target cannot be reached, or its response is broken.
    Unreachable,
    /// 504: the target takes too long.
    Timeout,
}

impl Page {
    const ALL: [Self; 5] = [Self::NotFound, Self::Unavailable, Self::Loop, Self::Unreachable, Self::Timeout];

    fn status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Unavailable => 503,
            Self::Loop => 508,
            Self::Unreachable => 502,
            Self::Timeout => 504,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "404 not found: there is no such site here\n",
            Self::Unavailable => {
                "503 service unavailable: this site is not running at the moment; try again soon\n"
            }
            Self::Loop => "508 loop detected: the request came back to where it was sent from\n",
            Self::Unreachable => "502 bad gateway: this site cannot be reached at the moment\n",
            Self::Timeout => "504 gateway timeout: this site takes too long to answer\n",
        }
    }
}

/// The replies, made once.
#[derive(Clone, Debug)]
pub(super) struct Pages(BTreeMap<Page, Reply>);

impl Default for Pages {
    fn default() -> Self {
        Self(Page::ALL.into_iter().map(|page| (page, Reply::new(page.status(), TEXT, page.text()))).collect())
    }
}

impl Pages {
    /// Reads the operator's own pages, `404.html`, `502.html`, `503.html`, `504.html` and
    /// `508.html`, as far as they are there.
    pub(super) fn read(dir: &Path) -> Result<Self, Problem> {
        let mut pages = Self::default();
        for page in Page::ALL {
            let path = dir.join(format!("{}.html", page.status()));
            let failed = |problem: Problem| problem.at(Untrusted::path(&path));
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound && dir.is_dir() => continue,
                Err(error) => return Err(failed(Problem::new("cannot be read").because(error))),
            };
            let mut body = Vec::new();
            file.take(PAGE_MAX + 1)
                .read_to_end(&mut body)
                .map_err(|error| failed(Problem::new("cannot be read").because(error)))?;
            if body.len() as u64 > PAGE_MAX {
                return Err(failed(
                    Problem::new(format_args!("it has more than {} KiB", PAGE_MAX / 1024))
                        .hint("an error page is one small file; put images and styles into it"),
                ));
            }
            pages.0.insert(page, Reply::new(page.status(), HTML, body));
        }
        Ok(pages)
    }

    /// Returns the replies to what fails on the way to a target.
    pub(super) fn failures(&self) -> Vec<Reply> {
        [Page::Unreachable, Page::Unavailable, Page::Timeout, Page::Loop].map(|page| self.reply(page)).into()
    }

    /// Returns a reply; one without a target says when to try again, in seconds.
    pub(super) fn reply(&self, page: Page) -> Reply {
        let reply = self.0.get(&page).cloned();
        let reply = reply.unwrap_or_else(|| Reply::new(page.status(), TEXT, page.text()));
        match (page, FieldLine::new("Retry-After", "2")) {
            (Page::Unavailable, Ok(line)) => reply.with_field(line),
            _ => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn dir(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("dockline-pages-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn there_are_pages_without_a_directory() {
        let pages = Pages::default();
        assert_eq!(pages.reply(Page::NotFound).status().as_u16(), 404);
        assert_eq!(pages.reply(Page::Loop).status().as_u16(), 508);
        let unavailable = format!("{:?}", pages.reply(Page::Unavailable));
        assert!(unavailable.contains("503") && unavailable.contains("Retry-After"), "{unavailable}");
    }

    #[test]
    fn own_pages_take_the_place_of_those() {
        let dir = dir("own");
        fs::write(dir.join("404.html"), "<p>nothing").unwrap();
        let pages = Pages::read(&dir).unwrap();
        assert_eq!(pages.reply(Page::NotFound), Reply::new(404, HTML, "<p>nothing"));
        assert!(format!("{:?}", pages.reply(Page::Unavailable)).contains("not running"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_page_has_a_largest_size() {
        let dir = dir("size");
        let largest = usize::try_from(PAGE_MAX).unwrap();
        for (size, is_ok) in [(largest - 1, true), (largest, true), (largest + 1, false)] {
            fs::write(dir.join("503.html"), vec![b'a'; size]).unwrap();
            let read = Pages::read(&dir).map(drop).map_err(|problem| problem.to_string());
            assert_eq!(read.is_ok(), is_ok, "{size}: {read:?}");
        }
        fs::remove_dir_all(&dir).unwrap();
        assert!(Pages::read(&dir).unwrap_err().to_string().contains("404.html: cannot be read"));
    }
}
