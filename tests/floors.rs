//! The modules of the crate use each other in one direction. Each uses only modules on its own floor of
//! ARCHITECTURE.md, or on floors below.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules that each module uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let folders = folders_in(&root().join("src"));
    assert!(folders.len() > 10, "only {} folders", folders.len());
    for (folder, uses) in folders {
        if let Some(circle) = circle(&uses) {
            panic!("in src/{}: {}", folder.join("/"), circle.join(" -> "));
        }
    }
}

#[test]
fn no_module_uses_a_floor_above_its_own() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let floors = floors(&document);
    let floor = |name: &str| {
        let floor = floors.get(name);
        *floor.unwrap_or_else(|| panic!("`{name}` has no floor in ARCHITECTURE.md"))
    };
    let folders = folders_in(&root().join("src"));
    let top = &folders[&Vec::new()];
    assert!(top.len() > 7, "only {} modules", top.len());
    for (module, used) in top {
        for other in used {
            let (own, below) = (floor(module), floor(other));
            assert!(
                below <= own,
                "`{module}` on floor {own} uses `{other}` on floor {below}"
            );
        }
    }
}

#[test]
fn has_no_async_code_below_the_wire() {
    for module in ["words", "time", "handshake", "codec", "config.rs"] {
        for file in files_below(&root().join("src").join(module)) {
            let code = code_of(&fs::read_to_string(&file).unwrap());
            for word in ["async fn", ".await", "tokio::", "hyper::", "futures_util::"] {
                assert!(!code.contains(word), "{word} in {}", file.display());
            }
        }
    }
}

#[test]
fn finds_a_circle_from_a_module_outside_it() {
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (module, other) in pairs {
            let used = uses.entry((*module).into()).or_default();
            used.insert((*other).into());
        }
        uses
    };
    let straight = uses(&[("a", "b"), ("a", "c"), ("b", "c")]);
    assert_eq!(circle(&straight), None);
    let round = uses(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]);
    assert_eq!(circle(&round).unwrap(), ["b", "c", "d", "b"]);
}

#[test]
fn reads_paths_from_code_but_not_from_comments() {
    let code = "
        //! [`crate::doc`]
        use crate::{
            one::{self, a::b},
            two, // crate::comment
            three::C,
        };
        use super::{four::D, super::E};
        pub(in crate::place) fn f() -> crate::five::G {}

        #[cfg(test)]
        mod tests {
            use crate::test;
        }
    ";
    let code = code_of(code);
    let paths = paths_in(&code);
    let paths: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        [
            "crate::one::self",
            "crate::one::a::b",
            "crate::two",
            "crate::three::C",
            "super::four::D",
            "super::super::E",
            "crate::five::G",
        ]
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns, for each folder, which other modules of the folder each of its modules uses. Tests are left out.
///
/// `lib` is left out as well: it re-exports, so it may use every module.
fn folders_in(src: &Path) -> BTreeMap<Vec<String>, Uses> {
    let mut folders: BTreeMap<_, Uses> = BTreeMap::new();
    for file in files_below(src) {
        let path = file.strip_prefix(src).unwrap().with_extension("");
        let mut module: Vec<_> = path.iter().map(|part| part.to_str().unwrap()).collect();
        let is_test = |part: &&str| part.contains("tests") || *part == "loom";
        if module == ["lib"] || module.iter().any(is_test) {
            continue;
        }
        module.retain(|part| *part != "mod");
        let code = code_of(&fs::read_to_string(&file).unwrap());
        for path in paths_in(&code) {
            let used = absolute(&module, &path);
            let mut both = module.iter().zip(&used);
            let Some(shared) = both.position(|(one, other)| one != other) else {
                continue;
            };
            // Modules may use the items of a folder that they are in.
            if !used[shared].starts_with(char::is_uppercase) {
                let folder = module[..shared].iter().map(|&part| part.into()).collect();
                let uses = folders.entry(folder).or_default();
                let uses = uses.entry(module[shared].into()).or_default();
                uses.insert(used[shared].into());
            }
        }
    }
    folders
}

/// Returns the absolute path of a path that is used in `module`.
fn absolute<'a>(module: &[&'a str], path: &[&'a str]) -> Vec<&'a str> {
    let supers = path.iter().take_while(|part| **part == "super").count();
    match path.strip_prefix(&["crate"]) {
        Some(path) => path.to_vec(),
        None => [&module[..module.len() - supers], &path[supers..]].concat(),
    }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap();
    entries
        .flat_map(|entry| files_below(&entry.unwrap().path()))
        .collect()
}

/// Returns the code of a file in one line, without comments and without its tests.
fn code_of(file: &str) -> String {
    let lines = file.lines().map(str::trim);
    let code: Vec<_> = lines
        .take_while(|line| *line != "mod tests {")
        .map(|line| line.split("//").next().unwrap())
        .collect();
    // Removes visibilities: `pub(in crate::…)` uses nothing.
    code.join(" ").replace("(in crate::", "(")
}

/// Returns the paths that begin with `crate` or `super`, in `use` lines and elsewhere.
fn paths_in(code: &str) -> Vec<Vec<&str>> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(start) = rest
        .find("crate::")
        .into_iter()
        .chain(rest.find("super::"))
        .min()
    {
        rest = read_tree(&rest[start..], &[], &mut paths);
    }
    paths
}

/// Reads a path, or a list of paths in braces after a common beginning. Returns the code after it.
fn read_tree<'a>(mut code: &'a str, before: &[&'a str], paths: &mut Vec<Vec<&'a str>>) -> &'a str {
    let mut path = before.to_vec();
    loop {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let end = code.find(|letter| !is_part(letter)).unwrap_or(code.len());
        path.push(&code[..end]);
        match code[end..].strip_prefix("::") {
            Some(rest) => code = rest.trim_start(),
            None => {
                paths.push(path);
                return &code[end..];
            }
        }
        if let Some(mut list) = code.strip_prefix('{') {
            loop {
                list = list.trim_start_matches([' ', ',']);
                match list.strip_prefix('}') {
                    Some(rest) => return rest,
                    None => list = read_tree(list, &path, paths),
                }
            }
        }
    }
}

/// Returns a circle, if there is one. Its first module is also its last.
fn circle(uses: &Uses) -> Option<Vec<&str>> {
    let mut done = BTreeSet::new();
    uses.keys()
        .find_map(|module| circle_from(module, uses, &mut Vec::new(), &mut done))
}

fn circle_from<'a>(
    module: &'a str,
    uses: &'a Uses,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(start) = way.iter().position(|passed| *passed == module) {
        return Some([&way[start..], &[module]].concat());
    }
    if !done.insert(module) {
        return None;
    }
    way.push(module);
    let mut used = uses.get(module).into_iter().flatten();
    let found = used.find_map(|other| circle_from(other, uses, way, done));
    way.pop();
    found
}

/// Reads the table of floors. Returns the floor of each module.
fn floors(document: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for row in document.lines().filter(|line| line.starts_with("| ")) {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (Some(floor), Some(modules)) = (cells.next(), cells.next()) else {
            continue;
        };
        let Some(Ok(floor)) = floor.split(' ').next().map(str::parse) else {
            continue;
        };
        for module in modules.split('`').filter(|part| !part.trim().is_empty()) {
            let before = floors.insert(module.trim_end_matches('/').to_owned(), floor);
            assert_eq!(before, None, "`{module}` has two floors");
        }
    }
    floors
}
