//! A picture handed to the host's recognition as it is; its lines become paragraphs with their places.

use std::rc::Rc;

use guest_doc::{Block, DocError, Document, File, Image, Kind, Ocr, OcrLine, Result, Summary, join_lines};
use guest_settings::Settings;

/// Bytes of one picture: what passes between component and host at once.
const BYTES_MAX: u64 = 24 << 20;
/// Bytes of one read.
const READ_BYTES: u32 = 1 << 20;

/// How files of each type begin.
const STARTS: [&[u8]; 5] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"RIFF"];

/// Reads the picture; `Unsupported` when it is none.
#[expect(clippy::needless_pass_by_value, reason = "as every parser's `open`")]
pub fn open(file: Rc<dyn File>, ocr: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    let settings = Settings::parse(settings, &["confidence_min"]).map_err(DocError::invalid)?;
    let confidence_min = settings.number("confidence_min", 0.0..=1.0, 0.3).map_err(DocError::invalid)? as f32;
    let size = file.size();
    if size > BYTES_MAX {
        return Err(DocError::too_large(format!("the picture has {size} bytes, more than {BYTES_MAX}")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    while (bytes.len() as u64) < size {
        let read = file.read_at(bytes.len() as u64, READ_BYTES)?;
        if read.is_empty() {
            break;
        }
        bytes.extend(read);
    }
    let webp = bytes.get(8..12) == Some(b"WEBP");
    let known = STARTS.iter().any(|start| bytes.starts_with(start) && (*start != b"RIFF" || webp));
    if !known {
        return Err(DocError::unsupported("this is no PNG, JPEG, TIFF or WebP picture"));
    }
    Ok(Box::new(Picture { bytes: Some(bytes), ocr, confidence_min }))
}

struct Picture {
    /// None once it was read.
    bytes: Option<Vec<u8>>,
    ocr: Rc<dyn Ocr>,
    confidence_min: f32,
}

impl Document for Picture {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        let Some(bytes) = self.bytes.take() else { return Ok(false) };
        let lines = self.ocr.recognize(Image::Encoded(bytes))?;
        let clear: Vec<OcrLine> =
            lines.into_iter().filter(|line| line.confidence >= self.confidence_min).collect();
        for (text, area) in join_lines(&clear) {
            blocks.push(Block { area: Some(area), ..Block::new(Kind::Paragraph, text).on_page(1) });
        }
        if blocks.is_empty() {
            return Err(DocError::invalid("no text was recognised in the picture"));
        }
        Ok(false)
    }

    fn summary(&self) -> Summary {
        Summary::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_doc::{Area, HostError, NoOcr, Session};

    struct Given(Vec<u8>);

    impl File for Given {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn name(&self) -> String {
            "扫描.png".to_owned()
        }
        fn media_type(&self) -> String {
            "image/png".to_owned()
        }
        fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, HostError> {
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            Ok(rest.get(..len as usize).unwrap_or(rest).to_vec())
        }
    }

    /// Sees two clear lines and a smudge.
    struct Reader;

    impl Ocr for Reader {
        fn recognize(&self, image: Image) -> Result<Vec<OcrLine>, HostError> {
            assert!(matches!(image, Image::Encoded(bytes) if bytes.starts_with(b"\x89PNG")));
            let line = |text: &str, y: f32, confidence: f32| OcrLine {
                text: text.to_owned(),
                area: Area { x: 1.0, y, width: 50.0, height: 10.0 },
                confidence,
            };
            Ok(vec![line("年假五", 0.0, 0.9), line("天。", 12.0, 0.8), line("~`|", 200.0, 0.1)])
        }
    }

    fn png() -> Rc<dyn File> {
        Rc::new(Given([&b"\x89PNG\r\n\x1a\n"[..], &[7; 3 << 20]].concat()))
    }

    #[test]
    fn clear_lines_become_paragraphs() {
        let mut session = Session::new(open(png(), Rc::new(Reader), "{}").unwrap());
        let blocks = session.next(1_000).unwrap().unwrap();
        assert_eq!(blocks.len(), 1);
        assert_eq!((blocks[0].text.as_str(), blocks[0].page), ("年假五天。", Some(1)));
        assert_eq!(session.next(1_000).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let error = |file: Rc<dyn File>, settings: &str| {
            let mut session = Session::new(open(file, Rc::new(NoOcr), settings)?);
            session.next(1_000).map(|_| ())
        };
        assert!(matches!(error(Rc::new(Given(b"words".to_vec())), "{}"), Err(DocError::Unsupported(_))));
        let riff = [&b"RIFF\0\0\0\0WAVE"[..], &[0; 9]].concat();
        assert!(matches!(error(Rc::new(Given(riff)), "{}"), Err(DocError::Unsupported(_))));
        let huge = [&b"\xff\xd8\xff"[..], &vec![0; BYTES_MAX as usize]].concat();
        assert!(matches!(error(Rc::new(Given(huge)), "{}"), Err(DocError::TooLarge(_))));
        assert!(matches!(error(png(), r#"{"confidence_min": 2}"#), Err(DocError::Invalid(_))));
        // Why nothing is recognised is the host's to say.
        assert!(matches!(error(png(), "{}"), Err(DocError::Host(_))));
    }
}
