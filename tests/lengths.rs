//! No test file is longer than 600 lines. A longer file usually has two subjects.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 600;

#[test]
fn no_test_file_is_longer_than_600_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = files_below(&root.join("tests"));
    files.extend(files_below(&root.join("benches")));
    let src = root.join("src");
    let modules = files_below(&src).into_iter();
    files.extend(modules.filter(|path| has_only_tests(path.strip_prefix(&src).unwrap())));
    assert!(files.len() > 100, "only {} files were found", files.len());
    let too_long: Vec<_> = files
        .iter()
        .map(|path| (path, fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
}

fn has_only_tests(path: &Path) -> bool {
    let mut names = path.iter().map(|name| name.to_str().unwrap());
    names.any(|name| name.starts_with("tests") || name == "loom.rs")
}

/// Returns the Rust files below a folder, without build output and installed packages.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            files.extend((path.extension() == Some(OsStr::new("rs"))).then_some(path));
        } else if !path.ends_with("target") && !path.ends_with("node_modules") {
            files.append(&mut files_below(&path));
        }
    }
    files
}
