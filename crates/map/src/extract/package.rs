//! Documents that are ZIP files: their parts, unpacked one by one under one budget.
//!
//! A part's name only leads to bytes of the same file; nothing is ever written or opened by it.

use super::Refused;
use super::build::TEXT_BYTES_MAX;
use super::said::{self, Told};
use super::xml::relations;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::result::ZipError;

/// LIMIT: bytes that all parts of one document together may unpack to.
const UNPACKED_BYTES_MAX: usize = 256 << 20;

pub(super) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// What may still be unpacked.
    left: usize,
    what: &'static str,
}

impl<'a> Package<'a> {
    pub(super) fn open(bytes: &'a [u8], what: &'static str) -> Result<Self, Refused> {
        let archive = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| Refused::broken(format!("it isn't a readable {what}: {error}")))?;
        Ok(Self { archive, left: UNPACKED_BYTES_MAX, what })
    }

    /// Unpacks one part. What unpacks to more than the limit is refused before memory is.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, Refused> {
        let file = match self.archive.by_name(name) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(_)) => {
                return Err(Refused::broken("it is protected by a password or packed in an unknown way"));
            }
            Err(error) => return Err(Refused::broken(format!("its part `{name}` can't be unpacked: {error}"))),
        };
        let limit = TEXT_BYTES_MAX.min(self.left);
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Refused::broken(format!("its part `{name}` can't be unpacked: {error}")))?;
        if bytes.len() > limit {
            return Err(Refused::too_large());
        }
        self.left -= bytes.len();
        Ok(Some(bytes))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refused> {
        let Some(mut bytes) = self.bytes(name)? else { return Ok(None) };
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        String::from_utf8(bytes).map(Some).map_err(|_| Refused::broken(format!("its part `{name}` isn't UTF-8")))
    }

    /// A part without which there is no document.
    pub(super) fn needed(&mut self, name: &str) -> Result<String, Refused> {
        self.text(name)?
            .ok_or_else(|| Refused::broken(format!("it is a ZIP file without `{name}`, so no {}", self.what)))
    }

    /// The relations of a part, by their ids.
    pub(super) fn relations(&mut self, part: &str) -> Result<HashMap<String, String>, Refused> {
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let xml = self.text(&format!("{folder}/_rels/{name}.rels"))?;
        Ok(xml.map(|xml| relations(&xml, folder)).unwrap_or_default())
    }

    /// What an Office document says of itself.
    pub(super) fn core(&mut self) -> Result<Told, Refused> {
        Ok(self.text("docProps/core.xml")?.map(|xml| said::core(&xml)).unwrap_or_default())
    }
}
