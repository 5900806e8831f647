//! Builds llhttp where it is asked for: its sources are downloaded by `fuzz/run`, and what calls it is ours.

fn main() {
    println!("cargo::rerun-if-changed=src/readers/llhttp.c");
    println!("cargo::rerun-if-env-changed=LLHTTP_DIR");
    #[cfg(feature = "llhttp")]
    build();
}

#[cfg(feature = "llhttp")]
fn build() {
    let folder = std::env::var("LLHTTP_DIR").expect("LLHTTP_DIR names the folder with the sources; see fuzz/run");
    let sources = ["api.c", "http.c", "llhttp.c"].map(|name| format!("{folder}/{name}"));
    cc::Build::new().include(&folder).files(sources).file("src/readers/llhttp.c").warnings(false).compile("llhttp");
}
