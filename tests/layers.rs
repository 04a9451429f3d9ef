//! The rules of docs/ARCHITECTURE.md that the compiler does not keep: who may import whom, and
//! where `unsafe` may be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::fs;
use std::path::{Path, PathBuf};

/// A layer and the layers that it may use. `sys` is the crate dockline-sys.
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &["limits"]),
    ("limits", &[]),
    ("untrusted", &[]),
    ("h1", &["error", "limits"]),
    ("proxy", &["h1", "error", "limits"]),
    ("relay", &["error", "limits"]),
    ("routes", &[]),
    ("routes_file", &["routes"]),
    ("drive", &["relay", "sys", "error", "limits"]),
    ("engine", &["drive", "proxy", "relay", "h1", "sys", "error", "limits", "untrusted"]),
    ("ffi", &["engine", "drive", "proxy", "relay", "routes", "routes_file", "h1", "sys", "error", "limits"]),
];

/// Modules of the engine that only a few others may import: accepting goes one way, from the loop
/// over accepting to the session.
const ENGINE: &[(&str, &[&str])] =
    &[("engine", &["workers"]), ("accept", &["engine"]), ("session", &["accept", "engine"])];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    assert!(paths.len() > 20);
    paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            let layer = name.split(['/', '.']).next().unwrap().to_owned();
            (name, layer, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Returns the sources of all crates, by their paths.
fn sources_of_all_crates() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = ["certs", "discovery", "docker-client", "docker-proxy", "gateway", "sys", "udp"];
    let mut paths = Vec::new();
    sources(&root.join("src"), &mut paths);
    crates.iter().for_each(|member| sources(&root.join(member).join("src"), &mut paths));
    let text = |path: &PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    paths.iter().map(text).collect()
}

#[test]
fn imports_point_down() {
    for (name, layer, text) in all_sources() {
        if layer == "lib" {
            continue;
        }
        let (_, allowed) =
            LAYERS.iter().find(|(known, _)| *known == layer).unwrap_or_else(|| panic!("{name}"));
        // Documentation may point anywhere.
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for used in code.flat_map(|line| line.split("crate::").skip(1)) {
            let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            assert!(used == layer || allowed.contains(&used), "src/{name} imports crate::{used}");
        }
    }
}

#[test]
fn the_engine_accepts_straight_down() {
    for (name, _, text) in all_sources() {
        let Some(path) = name.strip_prefix("engine/").filter(|path| *path != "mod.rs") else { continue };
        let module = path.split(['/', '.']).next().unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        // In a folder `super` is the module itself.
        let prefix = if path.contains('/') { "crate::engine::" } else { "super::" };
        for used in code.flat_map(|line| line.split(prefix).skip(1)) {
            let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let users = ENGINE.iter().find(|(restricted, _)| *restricted == used).map(|(_, users)| *users);
            let allowed = used == module || users.is_none_or(|users| users.contains(&module));
            assert!(allowed, "src/{name} imports engine::{used}");
        }
    }
}

#[test]
fn unsafe_is_in_sys_and_ffi_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for crate_root in [
        "discovery/src/lib.rs",
        "docker-client/src/lib.rs",
        "udp/src/lib.rs",
        "gateway/src/main.rs",
        "docker-proxy/src/main.rs",
    ] {
        let text = fs::read_to_string(root.join(crate_root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{crate_root}: forbid unsafe_code");
    }
    for (name, layer, text) in all_sources() {
        let has = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"));
        assert!(layer == "ffi" || !has, "src/{name} has unsafe code");
        let pure = [
            "error",
            "limits",
            "untrusted",
            "h1",
            "proxy",
            "relay",
            "routes",
            "routes_file",
            "drive",
            "engine",
        ]
        .contains(&layer.as_str());
        assert!(
            !pure || text.contains("#![forbid(unsafe_code)]") || name.contains("test"),
            "src/{name}: forbid unsafe_code"
        );
    }
}

/// The pure core has no system calls to make.
#[test]
fn the_pure_core_does_not_need_the_os_crate() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    for name in ["dockline-sys", "libc", "mio"] {
        let line = manifest.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        assert!(line.contains("optional = true"), "{line}");
    }
}

/// Paths and messages are shown by `Untrusted` and by the one place that writes for people.
#[test]
fn nothing_is_shown_raw() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for dir in
        ["src", "sys/src", "udp/src", "discovery/src", "docker-client/src", "gateway/src", "docker-proxy/src"]
    {
        sources(&root.join(dir), &mut paths);
    }
    assert!(paths.len() > 100);
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let raw = [".display()", "println!(", "print!(", "dbg!("].iter().find(|raw| line.contains(**raw));
            assert!(raw.is_none(), "{}: {line}", path.to_string_lossy());
        }
    }
}

/// Tables, drawings, examples and links cannot be broken.
#[test]
fn comments_are_wrapped_at_100_columns() {
    for (name, text) in sources_of_all_crates() {
        let mut is_example = false;
        for (line, number) in text.lines().zip(1..) {
            let Some((_, comment)) = line.split_once("//").filter(|(code, _)| code.trim().is_empty()) else {
                continue;
            };
            let comment = comment.trim_start_matches(['/', '!']).trim();
            is_example ^= comment.starts_with("```");
            let is_drawn = comment.starts_with('|') || comment.contains(['│', '─']);
            assert!(
                is_example || is_drawn || comment.starts_with('[') || line.chars().count() <= 100,
                "{name}:{number}: wrap this comment"
            );
        }
    }
}

#[test]
fn files_stay_readable() {
    for (name, text) in sources_of_all_crates() {
        let lines = text.lines().count();
        assert!(lines <= 800, "{name} has {lines} lines: split it by state, direction or purpose");
    }
}
