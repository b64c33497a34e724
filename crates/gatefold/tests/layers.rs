//! The files of the engine depend on each other one way: no circles, and the devices call no door.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Files that people call; `gpu/` and `cpu/` are below them.
const DOORS: [&str; 9] = [
    "device",
    "embed",
    "embed/buffers",
    "generate",
    "generate/beam",
    "network",
    "stream",
    "train",
    "train/checkpoint",
];

/// Every source file by its module path, such as `gpu/network`.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().with_extension("");
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(name.to_str().unwrap().replace('\\', "/"), text);
            }
        }
    }
    found
}

/// The part of a file before its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

/// Names that a `use` of that prefix brings in, one entry for each leaf of nested braces: `a::b`, `a::c`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else { return vec![tree.to_owned()] };
    let (prefix, inner) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap()]);
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[begin..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(leaves).map(|leaf| format!("{prefix}{leaf}")).collect()
}

/// The use declarations of a text: those that begin at the beginning of a line.
fn uses(text: &str) -> Vec<String> {
    let code = code(text);
    let begins = code.match_indices("use ").filter(|(at, _)| {
        let line = code[..*at].rfind('\n').map_or(0, |newline| newline + 1);
        matches!(&code[line..*at], "" | "pub " | "pub(crate) " | "pub(super) ")
    });
    let tree = |(at, _): (usize, &str)| {
        let tree = &code[at + 4..];
        tree[..tree.find(';').expect("a use declaration ends")].replace('\n', " ")
    };
    begins.map(tree).flat_map(|tree| leaves(&tree)).collect()
}

/// The file that defines a path below `from`, following re-exports of a module's own file.
fn target(files: &BTreeMap<String, String>, from: &str, path: &[&str]) -> Option<String> {
    let (&head, rest) = path.split_first()?;
    let below = if from.is_empty() { head.to_owned() } else { format!("{from}/{head}") };
    if files.contains_key(&below) {
        return if rest.is_empty() { Some(below) } else { target(files, &below, rest).or(Some(below)) };
    }
    // A name: where the module re-exports it, its own file, else the module's.
    let text = &files[if from.is_empty() { "lib" } else { from }];
    for leaf in uses(text) {
        let parts: Vec<&str> = leaf.split("::").map(str::trim).collect();
        if parts.last() == Some(&head) && parts.len() > 1 && parts[0] != "crate" && parts[0] != "super" {
            let module = if from.is_empty() { parts[0].to_owned() } else { format!("{from}/{}", parts[0]) };
            if files.contains_key(&module) {
                return target(files, from, &parts);
            }
        }
    }
    if from.is_empty() { None } else { Some(from.to_owned()) }
}

/// The arrows between files, from who uses to who is used; a module's own file re-exports its parts and is no user of them.
fn arrows(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| *file != "lib") {
        for leaf in uses(text) {
            let parts: Vec<&str> = leaf.split("::").map(str::trim).collect();
            let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent);
            let used = match parts.split_first() {
                Some((&"crate", rest)) => target(files, "", rest),
                Some((&"super", rest)) => target(files, parent, rest),
                Some((first, _)) if files.contains_key(&format!("{file}/{first}")) => {
                    target(files, file, &parts)
                }
                _ => None,
            };
            if let Some(used) = used.filter(|used| used != file) {
                found.entry(file.clone()).or_default().insert(used);
            }
        }
    }
    found
}

#[test]
fn files_depend_one_way() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let arrows = arrows(&files);
    assert!(arrows["gpu/training"].contains("gpu/replay"), "{arrows:?}");
    assert!(arrows["train"].contains("gpu/training") && arrows["stream"].contains("network"), "{arrows:?}");
    let mut problems = Vec::new();
    for (from, used) in &arrows {
        let is_device = from.starts_with("gpu") || from.starts_with("cpu");
        for to in used.iter().filter(|to| is_device && DOORS.contains(&to.as_str())) {
            problems.push(format!("{from} calls the door {to}"));
        }
    }
    // Files that use none of those left are taken away; what stays goes round in circles.
    let mut left: BTreeSet<&String> = files.keys().collect();
    let used = |file: &String| arrows.get(file).into_iter().flatten();
    loop {
        let free: Vec<&String> =
            left.iter().copied().filter(|file| used(file).all(|of| !left.contains(of))).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|file| !free.contains(file));
    }
    for file in &left {
        let used: Vec<&String> = used(file).filter(|of| left.contains(of)).collect();
        problems.push(format!("in a circle: {file} uses {used:?}"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
