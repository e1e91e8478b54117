//! Short runs of the modes that measure shapes of handler.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(arguments);
    command
}

/// Returns the rows of the last table: the first cell, and the numbers in the other cells.
fn rows(output: &Output) -> Vec<(String, Vec<f64>)> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    let (_, table) = stdout.rsplit_once("###").expect("a table has a heading");
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows = lines.map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let first = cells.next().expect("a row has cells").to_owned();
        let number = |cell: &str| {
            let number = cell.replace(',', "").parse();
            number.unwrap_or_else(|_| panic!("{cell:?} is no number: {line}"))
        };
        (first, cells.map(number).collect())
    });
    rows.collect()
}

#[test]
fn eight_shapes_of_handler_are_measured_beside_raw_tcp() {
    let arguments = ["--mode", "shapes", "--rounds", "1", "--seconds", "0.05"];
    let output = bench(&arguments).output().expect("the binary runs");
    let rows = rows(&output);
    assert_eq!(rows.len(), 8, "{rows:?}");
    for (at, (title, figures)) in rows.iter().enumerate() {
        assert!(title.starts_with(&(at + 1).to_string()), "{title}");
        assert_eq!(figures.len(), 4, "{title}");
        for figure in figures {
            assert!(*figure > 0.0, "{title}: {figures:?}");
        }
    }
}

#[test]
fn instructions_of_a_shape_are_more_than_those_of_raw_tcp() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("not tested: valgrind is missing");
        return;
    }
    let arguments = ["--mode", "instructions", "--shape", "3", "--rounds", "1"];
    let output = bench(&arguments).output().expect("the binary runs");
    let [(baseline, raw), (title, shape)] = &rows(&output)[..] else {
        panic!("not two rows: {output:?}");
    };
    assert_eq!(baseline, "raw");
    assert_eq!(title, "3 text to upper case");
    assert_eq!([raw.len(), shape.len()], [3, 3]);
    for (raw, shape) in raw.iter().zip(shape) {
        assert!(shape > raw, "{shape} and {raw}");
    }
}

#[test]
fn instructions_are_not_counted_without_valgrind() {
    let output = bench(&["--mode", "instructions"])
        .env("PATH", "/nonexistent")
        .output()
        .expect("the binary runs");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("needs valgrind"), "{stderr}");
}

#[test]
fn shapes_are_one_to_eight() {
    for wrong in ["0", "9", "1,x"] {
        let output = bench(&["--mode", "instructions", "--shape", wrong])
            .output()
            .expect("the binary runs");
        assert!(!output.status.success());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("the shapes are 1 to 8"), "{stderr}");
    }
}
