//! Names the shared library for the dynamic linker; cargo does not.

fn main() {
    // 0.x promises nothing from one minor version to the next, so the name carries it (docs/ABI.md).
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    let minor = env!("CARGO_PKG_VERSION_MINOR");
    let soname = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdockline.so.{soname}");
    println!("cargo::rerun-if-changed=build.rs");
}
