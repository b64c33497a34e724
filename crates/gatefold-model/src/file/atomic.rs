use crate::ModelError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes a file atomically: whatever happens, either the old file or the new one is there, never half of one.
///
/// The bytes go to a temporary file in the same directory, which is synced and then renamed; on unix the directory is
/// synced too. If the process is killed, the old file stays, at worst with a `.<name>.*.tmp` beside it.
///
/// # Errors
/// [`ModelError::Io`]; the old file is still there. Refuses to overwrite pipes, devices and directories, which the
/// rename would replace with a file.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), ModelError> {
    write_with(path.as_ref(), |file| file.write_all(bytes))
}

/// [`write_atomically`] for content produced while it is written.
pub(super) fn write_with(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), ModelError> {
    replace(path, content).map_err(|error| {
        let directory = directory_of(path);
        let advice = match error.kind() {
            ErrorKind::NotFound => format!("; make the directory {} first", directory.display()),
            ErrorKind::NotADirectory => format!("; {} is not a directory", directory.display()),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                format!("; the directory {} must be writable", directory.display())
            }
            _ => String::new(),
        };
        let source = io::Error::new(error.kind(), format!("cannot be written: {error}{advice}"));
        ModelError::Io { path: path.into(), source }
    })
}

fn replace(path: &Path, content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    // Renaming onto a symbolic link would replace the link, not the file it points to.
    let target = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(path).unwrap_or_else(|_| path.into()),
        _ => path.to_owned(),
    };
    let Some(name) = target.file_name() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path names no file"));
    };
    if fs::symlink_metadata(&target).is_ok_and(|found| !found.is_file()) {
        let problem = "it exists and is not a plain file; give another name";
        return Err(io::Error::new(ErrorKind::InvalidInput, problem));
    }
    let directory = directory_of(&target);
    let mut temporary = Temporary::create(&directory, &name.to_string_lossy())?;
    let mut buffered = BufWriter::with_capacity(1 << 16, &temporary.file);
    content(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    temporary.file.sync_all()?;
    fs::rename(&temporary.path, &target)?;
    temporary.renamed = true;
    sync_directory(&directory)
}

/// A new file that is deleted when this value is dropped, unless it was renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(directory: &Path, name: &str) -> io::Result<Temporary> {
        for attempt in 0u32.. {
            // Other threads, or killed processes with the same id, may have left such a file.
            let path = directory.join(format!(".{name}.{}-{attempt}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok(Temporary { path, file, renamed: false }),
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, "the directory is full of temporary files"))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // The write's own error is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The rename itself is durable only once the directory is.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot sync a directory; the rename was still atomic.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::{write_atomically, write_with};
    use gatefold_reference::Failures;
    use std::fs;
    use std::io::{self, Write};

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.bin");
        write_atomically(&path, b"old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(&[7; 200_000])?;
            Err(io::Error::other("the disk is full"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), format!("{}: cannot be written: the disk is full", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_path_that_names_no_file_is_refused() {
        let error = write_atomically("/", b"x").unwrap_err();
        assert_eq!(error.to_string(), "/: cannot be written: the path names no file");
    }

    #[cfg(unix)]
    #[test]
    fn anything_but_a_plain_file_is_left_unchanged() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (socket, link) = (directory.path().join("socket"), directory.path().join("link"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        symlink(&socket, &link).unwrap();
        let mut failures = Failures::new();
        for path in [&socket, &link, &directory.path().to_owned()] {
            failures.check(path.display().to_string(), || {
                let error = write_atomically(path, b"x").unwrap_err();
                let expected = "cannot be written: it exists and is not a plain file; give another name";
                assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
            });
        }
        failures.finish();
        assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_written_through_and_the_mode_is_that_of_any_new_file() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (link, file) = (directory.path().join("link"), directory.path().join("file"));
        fs::write(&file, "old").unwrap();
        let usual = fs::metadata(&file).unwrap().permissions().mode();
        symlink(&file, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode(), usual);
    }
}
