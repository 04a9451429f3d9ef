//! Writes `include/dockline.h`: the prose of `src/ffi/dockline.h.in`, and the items of the files
//! that it names.
//!
//! cbindgen writes types and functions, but groups a whole header by kind, prints constants as
//! decimal numbers and knows no enum that is only a list of names. So it is run for one file at a
//! time, and the constants are written here.

use std::fmt::Write as _;
use std::fs;

use crate::root;

/// A line of the template that the items of a file of `src/ffi` replace.
const ITEMS_OF: &str = "// items of ";

const COLUMNS: usize = 100;

pub(crate) fn generate() -> String {
    let template = fs::read_to_string(root().join("src/ffi/dockline.h.in")).unwrap();
    let mut header = String::new();
    for line in template.lines() {
        match line.strip_prefix(ITEMS_OF) {
            Some(file) => header.push_str(items_of(file).trim_end()),
            None => header.push_str(line),
        }
        header.push('\n');
    }
    header
}

fn items_of(file: &str) -> String {
    let path = root().join("src/ffi").join(file);
    let source = fs::read_to_string(&path).unwrap();
    let groups = constants(&source);
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    config.export.exclude.extend(groups.iter().filter_map(|group| group.tag.clone()));
    // By itself cbindgen keeps only what a function of the same file uses.
    config.export.include.extend(types(&source));
    let mut items = Vec::new();
    let builder = cbindgen::Builder::new().with_config(config).with_src(path);
    builder.generate().unwrap().write(&mut items);
    let items = String::from_utf8(items).unwrap();
    let constants: String = groups.iter().map(Group::to_c).collect();
    constants + &with_short_comments(&without_tags(&without_rust_sections(&items)))
}

/// The names of the public types of a file.
fn types(source: &str) -> impl Iterator<Item = String> {
    let names = source.lines().filter_map(|line| {
        line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub type "))?.split(' ').next()
    });
    names.map(str::to_owned)
}

/// Constants that belong together: the values of an alias, which become an enum, or a run of
/// others.
struct Group {
    /// The alias.
    tag: Option<String>,
    docs: Vec<String>,
    constants: Vec<Constant>,
}

struct Constant {
    docs: Vec<String>,
    name: String,
    value: String,
}

impl Group {
    fn to_c(&self) -> String {
        let mut out = String::new();
        if let Some(tag) = &self.tag {
            out.push_str(&comment(&self.docs, ""));
            writeln!(out, "enum {tag} {{").unwrap();
            for constant in &self.constants {
                out.push_str(&comment(&constant.docs, "    "));
                writeln!(out, "    {} = {},", constant.name, constant.value).unwrap();
            }
            out.push_str("};\n\n");
        } else {
            for constant in &self.constants {
                out.push_str(&comment(&constant.docs, ""));
                writeln!(out, "#define {} {}\n", constant.name, constant.value).unwrap();
            }
        }
        out
    }
}

/// The public constants of a file, in their order.
fn constants(source: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut alias: Option<(&str, Vec<String>)> = None;
    let mut docs = Vec::new();
    for line in source.lines() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim_start().to_owned());
            continue;
        }
        let docs = std::mem::take(&mut docs);
        if let Some((name, "i32;")) = line.strip_prefix("pub type ").and_then(|rest| rest.split_once(" = ")) {
            alias = Some((name, docs));
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            let (name, rest) = constant.split_once(": ").unwrap();
            let (of, value) = rest.trim_end_matches(';').split_once(" = ").unwrap();
            let tag = of.starts_with("dockline_").then(|| of.to_owned());
            if groups.last().is_none_or(|group| group.tag != tag) {
                let docs = match &tag {
                    Some(tag) => {
                        let (name, docs) = alias.take().unwrap();
                        assert_eq!(name, tag, "the alias stands right before its values");
                        docs
                    }
                    None => Vec::new(),
                };
                groups.push(Group { tag, docs, constants: Vec::new() });
            }
            let constant = Constant { docs, name: name.to_owned(), value: value_to_c(of, value) };
            groups.last_mut().unwrap().constants.push(constant);
        }
    }
    groups
}

fn value_to_c(of: &str, value: &str) -> String {
    match (of, value) {
        ("u64", "u64::MAX") => "UINT64_MAX".to_owned(),
        ("u32" | "u64", digits) => digits.replace('_', "") + "u",
        (_, digits) => digits.to_owned(),
    }
}

/// A documentation comment, on one line if it fits.
fn comment(docs: &[String], indent: &str) -> String {
    if let [doc] = docs {
        let line = format!("{indent}/** {doc} */\n");
        if line.len() <= COLUMNS + 1 {
            return line;
        }
    }
    let mut out = format!("{indent}/**\n");
    for doc in docs {
        writeln!(out, "{}", format!("{indent} * {doc}").trim_end()).unwrap();
    }
    writeln!(out, "{indent} */").unwrap();
    out
}

/// The comments of cbindgen in the form of [`comment`].
fn with_short_comments(items: &str) -> String {
    let mut out = String::new();
    let mut lines = items.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() != "/**" {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        let indent = &line[..line.len() - "/**".len()];
        let text = lines.by_ref().take_while(|line| line.trim_start() != "*/");
        let docs: Vec<_> = text
            .map(|line| {
                let text = line.trim_start().trim_start_matches('*');
                text.strip_prefix(' ').unwrap_or(text).to_owned()
            })
            .collect();
        out.push_str(&comment(&docs, indent));
    }
    out
}

/// Every struct has a typedef of its name, so that uses of it need no `struct`; cbindgen leaves it
/// out only for types of other files.
fn without_tags(items: &str) -> String {
    let mut out = String::new();
    for line in items.lines() {
        if line.starts_with("typedef struct ") {
            out.push_str(line);
        } else {
            out.push_str(&line.replace("struct dockline_", "dockline_"));
        }
        out.push('\n');
    }
    out
}

/// `# Safety` sections are for Rust callers; in C they would repeat the parameters.
fn without_rust_sections(items: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in items.lines() {
        if line.trim() == "* # Safety" {
            skipping = true;
            // The blank comment line above it, too.
            if out.ends_with(" *\n") {
                out.truncate(out.len() - " *\n".len());
            }
        } else if line.trim() == "*/" {
            skipping = false;
        }
        if !skipping {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}
