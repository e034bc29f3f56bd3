//! Which characters do the bytes of a font stand for? By its character set, else by the code page of the file.

use encoding_rs::Encoding;

/// Bytes waiting until their character is complete.
#[derive(Debug)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    encoding: &'static Encoding,
    /// Whether the last byte begins a character of two.
    half: bool,
}

impl Default for Pending {
    fn default() -> Self {
        Pending { bytes: Vec::new(), encoding: encoding_rs::WINDOWS_1252, half: false }
    }
}

impl Pending {
    /// Adds a byte of text; what was written in another encoding is decoded first.
    pub(crate) fn push(&mut self, byte: u8, encoding: &'static Encoding, text: &mut String) {
        // The second byte of a character may look like a letter, and its font may be another by mistake.
        if !self.half && encoding != self.encoding {
            self.flush(text);
            self.encoding = encoding;
        }
        self.bytes.push(byte);
        self.half = !self.half && is_wide(self.encoding) && (0x81..=0xfe).contains(&byte);
    }

    /// Decodes what is there.
    pub(crate) fn flush(&mut self, text: &mut String) {
        if !self.bytes.is_empty() {
            text.push_str(&self.encoding.decode_without_bom_handling(&self.bytes).0);
            self.bytes.clear();
        }
        self.half = false;
    }
}

fn is_wide(encoding: &'static Encoding) -> bool {
    [encoding_rs::GBK, encoding_rs::BIG5, encoding_rs::SHIFT_JIS, encoding_rs::EUC_KR].contains(&encoding)
}

/// Of a code page, as `\ansicpg` and `\cpg` name it.
pub(crate) fn of_code_page(page: i32) -> Option<&'static Encoding> {
    let label = match page {
        936 | 54936 => "gbk",
        950 => "big5",
        932 => "shift_jis",
        949 | 1361 => "euc-kr",
        874 => "windows-874",
        866 => "ibm866",
        10_000 => "macintosh",
        65_001 => "utf-8",
        1_250..=1_258 => return Encoding::for_label(format!("windows-{page}").as_bytes()),
        _ => return None,
    };
    Encoding::for_label(label.as_bytes())
}

/// Of a font's character set (`\fcharset`); none where it is that of the file.
pub(crate) fn of_font(charset: i32) -> Option<&'static Encoding> {
    of_code_page(match charset {
        77 => 10_000,
        128 => 932,
        129 | 130 => 949,
        134 => 936,
        136 => 950,
        161 => 1_253,
        162 => 1_254,
        163 => 1_258,
        177 => 1_255,
        178 => 1_256,
        186 => 1_257,
        204 => 1_251,
        222 => 874,
        238 => 1_250,
        _ => return None,
    })
}
