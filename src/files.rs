//! Files that are small by their nature: keys, certificates, rules. Doesn't know what they hold.

use std::{fs::File, io::Read as _, path::Path};

/// Bytes that such a file may have.
pub(crate) const MAX_SIZE: usize = 1 << 20;

/// The content of a file. What is beyond [`MAX_SIZE`] is not even looked at: files that are followed are
/// read every second, and all of it would be in memory.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, &'static str> {
    let mut content = Vec::new();
    let read =
        File::open(file).and_then(|file| file.take(MAX_SIZE as u64 + 1).read_to_end(&mut content));
    match read {
        Err(_) => Err("can't be read"),
        Ok(_) if content.len() > MAX_SIZE => Err("is larger than 1 MiB"),
        Ok(_) => Ok(content),
    }
}

/// The same, of a file that holds text.
pub(crate) fn read_text(file: &Path) -> Result<String, &'static str> {
    String::from_utf8(read(file)?).map_err(|_| "can't be read: it is no text")
}
