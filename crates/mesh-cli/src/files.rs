//! The files behind `-f`: one, a directory of them, or standard input.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mesh_discovery::objects::MAX_APPLY_BYTES;
use mesh_policy::manifest::{Places, Problem};

/// Files of one directory that are read; more is not a directory of policy.
const MAX_FILES: usize = 10_000;
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
const STDIN: &str = "-";

/// A file's text, and what to call it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Read when the first problem asks for it.
    places: OnceCell<Places>,
}

impl Source {
    /// Line and column of a field of one of its objects.
    pub(crate) fn place(&self, index: usize, field: &str) -> Option<(u32, u32)> {
        let places = self.places.get_or_init(|| Places::of(&self.text));
        places.find(index, field)
    }
}

/// Reads all that the arguments name, in their order; those of a directory by name.
///
/// All of them together may be as large as what is applied at once.
pub(crate) fn read(arguments: &[PathBuf]) -> Result<Vec<Source>, Vec<Problem>> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    let mut left = MAX_APPLY_BYTES;
    for argument in arguments {
        match expand(argument) {
            Err(message) => problems.push(problem(&argument.to_string_lossy(), &message)),
            Ok(paths) => {
                for path in paths {
                    let name = match path.to_string_lossy() {
                        name if name == STDIN => "(standard input)".into(),
                        name => name,
                    };
                    match text(&path, left) {
                        Ok(text) => {
                            left -= text.len();
                            let name = name.into_owned();
                            let places = OnceCell::new();
                            sources.push(Source { name, text, places });
                        }
                        Err(Unreadable { place, message }) => problems.push(Problem {
                            line: place.map(|place| place.0),
                            column: place.map(|place| place.1),
                            ..problem(&name, &message)
                        }),
                    }
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(sources)
    } else {
        Err(problems)
    }
}

fn problem(file: &str, message: &str) -> Problem {
    Problem {
        file: Some(file.to_owned()),
        message: message.to_owned(),
        ..Problem::default()
    }
}

/// The files that one argument means.
fn expand(argument: &Path) -> Result<Vec<PathBuf>, String> {
    if argument.as_os_str() == STDIN {
        return Ok(vec![argument.to_owned()]);
    }
    let found = fs::metadata(argument).map_err(|error| cannot_read(&error))?;
    if !found.is_dir() {
        return Ok(vec![argument.to_owned()]);
    }
    let entries = fs::read_dir(argument).map_err(|error| cannot_read(&error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| cannot_read(&error))?.path();
        if is_manifest(&path) {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(format!(
                "holds more than {MAX_FILES} files: name a smaller directory"
            ));
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(
            "holds no *.yaml, *.yml or *.json file, and folders in it are not searched: name the \
             folder that holds them"
                .to_owned(),
        );
    }
    Ok(paths)
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ours = ending.is_some_and(|ending| ENDINGS.contains(&ending));
    ours && !hidden && !path.is_dir()
}

fn cannot_read(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// Why a file is no text.
struct Unreadable {
    place: Option<(u32, u32)>,
    message: String,
}

fn text(path: &Path, limit: usize) -> Result<String, Unreadable> {
    let unreadable = |message| Unreadable {
        place: None,
        message,
    };
    let bytes = match path.as_os_str() == STDIN {
        true => take(io::stdin().lock(), limit),
        false => File::open(path).and_then(|file| take(file, limit)),
    };
    let bytes = bytes.map_err(|error| unreadable(cannot_read(&error)))?;
    let bytes = bytes.ok_or_else(|| {
        let most = MAX_APPLY_BYTES / 1024 / 1024;
        unreadable(format!(
            "is too large: all that is applied at once may have {most} MiB; apply it in parts"
        ))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = good.iter().rposition(|byte| *byte == b'\n');
        let text = String::from_utf8_lossy(&good[start.map_or(0, |at| at + 1)..]);
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Unreadable {
            place: Some((number(line), number(text.chars().count() + 1))),
            message: "this byte is no UTF-8 text: write YAML or JSON in UTF-8".to_owned(),
        }
    })
}

/// All of `reader`, unless it has more than `limit` bytes.
pub(crate) fn take(reader: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_directory_are_read_by_name_and_arguments_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        let names = ["m.json", "z.yaml", "b.yml", "a.yaml", "k.yaml", "c.yaml"];
        for name in names {
            fs::write(inside(name), name).unwrap();
        }
        fs::write(inside("notes.txt"), "").unwrap();
        let sources = read(&[inside("z.yaml"), folder.path().to_owned()]).unwrap();
        let texts: Vec<_> = sources.iter().map(|source| source.text.as_str()).collect();
        let sorted = ["a.yaml", "b.yml", "c.yaml", "k.yaml", "m.json", "z.yaml"];
        assert_eq!(texts, [&["z.yaml"][..], &sorted].concat());
    }

    #[test]
    fn what_is_larger_than_the_limit_is_not_taken() {
        assert_eq!(take(&b"abc"[..], 3).unwrap().unwrap(), b"abc");
        assert_eq!(take(&b"abcd"[..], 3).unwrap(), None);
    }
}
