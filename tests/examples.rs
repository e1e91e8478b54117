//! The index of the examples and the commands in their headers are complete.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The names of the files `examples/*.rs`, without their extension.
fn present() -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(examples())? {
        let file = entry?.file_name();
        names.extend(
            file.to_string_lossy()
                .strip_suffix(".rs")
                .map(str::to_owned),
        );
    }
    Ok(names)
}

/// The names in the first column of the index, each a link to its file.
fn listed() -> io::Result<Vec<String>> {
    let index = fs::read_to_string(examples().join("README.md"))?;
    let rows = index.lines().filter_map(|line| line.strip_prefix("| [`"));
    let names = rows.map(|row| {
        let (name, rest) = row.split_once("`](").expect("a row starts with a link");
        let link = format!("{name}.rs) |");
        assert!(rest.starts_with(&link), "{name} links to another file");
        name.to_owned()
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
    for name in present()? {
        let source = fs::read_to_string(examples().join(format!("{name}.rs")))?;
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
