//! Sets the soname of the shared library, which cargo does not do.

fn main() {
    // Before 1.0 a minor version may break the ABI, so it is a part of the name (docs/ABI.md).
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    let minor = env!("CARGO_PKG_VERSION_MINOR");
    let soname = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdockline.so.{soname}");
    println!("cargo::rerun-if-changed=build.rs");
}
