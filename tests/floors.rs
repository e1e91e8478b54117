//! The modules of the crate use each other in one direction, and only what stands on their own floor of
//! ARCHITECTURE.md or below.

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
    let uses = uses_in(&root().join("src"));
    assert!(uses.len() > 20, "only {} modules were found", uses.len());
    if let Some(circle) = circle(&uses) {
        panic!("these modules use each other: {}", circle.join(" -> "));
    }
}

#[test]
fn no_module_uses_one_of_a_floor_above_its_own() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let floors = floors(&document);
    for (module, used) in uses_in(&root().join("src")) {
        let floor = |name: &str| {
            let floor = floors.get(name);
            *floor.unwrap_or_else(|| panic!("`{name}` has no floor in ARCHITECTURE.md"))
        };
        for other in used {
            let (own, below) = (floor(&module), floor(&other));
            assert!(
                below <= own,
                "`{module}` on floor {own} uses `{other}` on floor {below}"
            );
        }
    }
}

#[test]
fn finds_a_circle_wherever_it_is_entered() {
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
fn reads_modules_out_of_code_and_not_out_of_comments() {
    let code = "
        //! [`crate::doc`]
        use crate::{
            one::{self, a::b},
            two, // crate::comment
            three::C,
        };
        use crate::four::{D, E};
        pub(in crate::place) fn f() -> crate::five::G {}

        #[cfg(test)]
        mod tests {
            use crate::test;
        }
    ";
    let expected = ["five", "four", "one", "three", "two"];
    assert!(modules_named_in(code).iter().eq(&expected));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns what the modules in `src` use of each other, without their tests.
///
/// `lib` re-exports and `fuzzing` is compiled for the fuzz targets alone: both may use every module.
fn uses_in(src: &Path) -> Uses {
    let mut uses = Uses::new();
    for file in files_below(src) {
        let path = file.strip_prefix(src).unwrap();
        let parts: Vec<_> = path.iter().map(|part| part.to_str().unwrap()).collect();
        let top = parts[0].trim_end_matches(".rs");
        if matches!(top, "lib" | "fuzzing") || parts.iter().any(|part| part.starts_with("tests")) {
            continue;
        }
        // Compiled as the module `executor` where there is no HTTP/2.
        let top = top.trim_start_matches("without_");
        let mut used = modules_named_in(&fs::read_to_string(&file).unwrap());
        used.remove(top);
        uses.entry(top.into()).or_default().append(&mut used);
    }
    uses
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.append(&mut files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Returns the modules that code names behind `crate::`, in `use` lines and elsewhere.
fn modules_named_in(code: &str) -> BTreeSet<String> {
    let lines = code.lines().map(str::trim);
    let code: Vec<_> = lines
        .take_while(|line| *line != "mod tests {")
        .map(|line| line.split("//").next().unwrap())
        .collect();
    let code = code.join(" ");
    let mut modules = BTreeSet::new();
    for (start, prefix) in code.match_indices("crate::") {
        // A visibility is no use.
        if code[..start].ends_with("(in ") {
            continue;
        }
        let rest = &code[start + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => modules.extend(items(list).iter().map(|item| first_name(item))),
            None => _ = modules.insert(first_name(rest)),
        }
    }
    modules
}

/// Returns the items of a `use` list, which starts behind its opening brace.
fn items(list: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (1, 0);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            items.push(list[start..at].trim());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

fn first_name(path: &str) -> String {
    let is_part = |character: &char| character.is_alphanumeric() || *character == '_';
    path.chars().take_while(is_part).collect()
}

/// Returns a circle, with the module that closes it at both ends.
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

/// Reads the table of floors: the number of each module's floor.
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
