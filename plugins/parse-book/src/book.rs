//! The chapters of a book, one at a time, as pages of HTML are read.

use std::rc::Rc;

use guest_archive::{Archive, decode};
use guest_doc::{Block, DocError, Document, File, Ocr, Result, Summary};
use guest_settings::Settings;

use crate::package::Package;

/// Opens an EPUB.
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    Settings::parse(settings, &[]).map_err(DocError::Invalid)?;
    let mut archive = Archive::open(file)?;
    let Package { chapters, summary } = Package::read(&mut archive)?;
    Ok(Box::new(Book { archive, chapters, next: 0, summary }))
}

struct Book {
    archive: Archive,
    chapters: Vec<String>,
    next: usize,
    summary: Summary,
}

impl Document for Book {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        let Some(part) = self.chapters.get(self.next) else { return Ok(false) };
        self.next += 1;
        // A chapter that is named and not there is no reason to lose the others.
        if let Some(bytes) = self.archive.part(part)? {
            let page = guest_html::page(&guest_html::from_xhtml(&decode(&bytes)), true)?;
            blocks.extend(page.blocks.into_iter().map(|block| block.in_part(part)));
        }
        Ok(self.next < self.chapters.len())
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }
}

#[cfg(test)]
mod tests;
