//! The index of the examples and the commands in their headers are complete.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The folders of examples, as the index links to them. The second one has examples that need a newer Rust.
const FOLDERS: [&str; 2] = ["", "../tests/hosts/examples/"];

/// The folder and the name, without the extension, of each file.
fn files() -> io::Result<Vec<(&'static str, String)>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(examples().join(folder))? {
            let file = entry?.file_name();
            let name = file.to_string_lossy();
            files.extend(
                name.strip_suffix(".rs")
                    .map(|name| (folder, name.to_owned())),
            );
        }
    }
    Ok(files)
}

/// The links to the files, relative to the index.
fn present() -> io::Result<BTreeSet<String>> {
    let files = files()?.into_iter();
    Ok(files
        .map(|(folder, name)| format!("{folder}{name}.rs"))
        .collect())
}

/// The links in the first column of the index, each with the name of its file.
fn listed() -> io::Result<Vec<String>> {
    let index = fs::read_to_string(examples().join("README.md"))?;
    let rows = index.lines().filter_map(|line| line.strip_prefix("| [`"));
    let names = rows.map(|row| {
        let (name, rest) = row.split_once("`](").expect("a row starts with a link");
        let (link, _) = rest.split_once(") |").expect("a link is a cell");
        let file = link.rsplit('/').next();
        let is_right = file == Some(&format!("{name}.rs"));
        assert!(is_right, "{name} links to another file");
        link.to_owned()
    });
    Ok(names.collect())
}

#[test]
fn index_lists_every_example_once() -> io::Result<()> {
    let listed = listed()?;
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "listed twice: {listed:?}");
    assert_eq!(unique, present()?, "listed (left) is not what is there");
    Ok(())
}

#[test]
fn header_of_every_example_says_how_to_run_it() -> io::Result<()> {
    for (folder, name) in files()? {
        let source = fs::read_to_string(examples().join(format!("{folder}{name}.rs")))?;
        let header = source.lines().take_while(|line| line.starts_with("//!"));
        let commands = header.filter_map(|line| line.split_once("cargo run "));
        let told = commands.filter(|(_, arguments)| {
            let mut words = arguments.split_whitespace();
            words.any(|word| word == "--example") && words.next() == Some(name.as_str())
        });
        assert!(told.count() > 0, "{name}: no `cargo run --example {name}`");
    }
    Ok(())
}
