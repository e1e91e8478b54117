//! Common mistakes: for each, the compiler reports exactly one error, which explains the mistake.
//!
//! `tests/mistakes/` has one program for each mistake. Its line `// error:` has the code or the text of the error.
//! Its lines `// says:` have words that the error must contain. The rest of the error may change with the compiler.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A package of all programs. It uses the `Cargo.lock` of this crate.
struct Package {
    folder: PathBuf,
    target: PathBuf,
}

impl Package {
    fn of(programs: &[(String, PathBuf)]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mistakes");
        let folder = target.join("package");
        fs::create_dir_all(&folder).unwrap();
        let mut manifest = format!(
            "[package]\nname = \"mistakes\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
             axum = {{ version = \"0.8\", default-features = false, features = [\"http1\", \"tokio\"] }}\n\
             http = \"1\"\n\
             tower-websocket = {{ path = {root:?}, features = [\"axum\", \"json\", \"test-util\"] }}\n"
        );
        for (name, path) in programs {
            manifest += &format!("[[bin]]\nname = {name:?}\npath = {path:?}\n");
        }
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        Self { folder, target }
    }

    /// Checks a program. Returns whether it compiles, and the compiler's output.
    fn check(&self, name: &str) -> (bool, String) {
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["check", "--quiet", "--bin", name, "--target-dir"])
            .arg(&self.target)
            .current_dir(&self.folder)
            .env("CARGO_TERM_COLOR", "never")
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    }
}

/// Compares the compiler's output for a program with the marks in the program, and returns the differences.
fn complaints(program: &str, said: &str) -> Vec<String> {
    let marked = |mark: &'static str| {
        let lines = program.lines();
        lines.filter_map(move |line| line.strip_prefix(mark).map(str::trim))
    };
    let is_error = |line: &&str| line.starts_with("error");
    let is_summary = |line: &&str| line.contains("could not compile") || line.contains("aborting");
    let errors: Vec<&str> = said
        .lines()
        .filter(is_error)
        .filter(|line| !is_summary(line))
        .collect();
    let expected: Vec<&str> = marked("// error:").collect();
    let mut complaints = Vec::new();
    if errors.len() != 1 || expected.len() != 1 {
        complaints.push(format!("{} errors: {errors:#?}", errors.len()));
    }
    if !errors
        .iter()
        .zip(&expected)
        .all(|(error, expected)| error.contains(expected))
    {
        complaints.push(format!("{errors:?} instead of {expected:?}"));
    }
    // The compiler wraps long texts.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = words(said);
    let missed = marked("// says:").filter(|says| !said.contains(&words(says)));
    complaints.extend(missed.map(|says| format!("it does not say {says:?}")));
    complaints
}

#[test]
#[ignore = "compiles axum and the crate again, and needs the compiler version of CI"]
fn each_mistake_is_one_error_that_explains_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut programs: Vec<_> = paths
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    programs.sort();
    assert!(programs.len() > 12, "only {} programs", programs.len());
    let package = Package::of(&programs);
    let (is_sound, said) = package.check("correct");
    assert!(is_sound, "{said}");

    let mut failed = Vec::new();
    for (name, path) in programs.iter().filter(|(name, _)| name != "correct") {
        let (_, said) = package.check(name);
        let complaints = complaints(&fs::read_to_string(path).unwrap(), &said);
        if !complaints.is_empty() {
            println!("# {name}\n{}\n\n{said}", complaints.join("\n"));
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
