//! Which character is a glyph whose font names only its place in one of Adobe's character collections? So embed TeX
//! and others their Chinese, Japanese and Korean fonts: without a table of characters.

use std::collections::HashMap;
use std::rc::Rc;

use hayro_interpret::font::Glyph;
use hayro_interpret::hayro_cmap::{BfString, CMap, CMapName, CidFamily, load_embedded};
use hayro_interpret::hayro_syntax::Pdf;
use hayro_interpret::hayro_syntax::object::{Array, Dict, Name, Object, Stream, String as Text};

/// Fonts of one document that are looked at.
const FONTS_MAX: usize = 4_096;
/// Bytes of a code at most.
const CODE_BYTES_MAX: u8 = 4;

/// Such fonts of a document, by name without the mark of a subset.
#[derive(Debug, Default)]
pub(crate) struct Collections {
    fonts: HashMap<String, Font>,
}

#[derive(Debug)]
struct Font {
    /// From codes to places.
    encoding: CMap,
    /// From places to characters.
    characters: Rc<CMap>,
}

impl Collections {
    /// Looks through all of the document's objects.
    pub(crate) fn of(pdf: &Pdf) -> Self {
        let mut fonts = HashMap::new();
        let mut families = HashMap::new();
        for object in pdf.objects() {
            let Object::Dict(dict) = object else { continue };
            if fonts.len() < FONTS_MAX
                && let Some((name, font)) = font(&dict, &mut families)
            {
                fonts.insert(name, font);
            }
        }
        Collections { fonts }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fonts.is_empty()
    }

    pub(crate) fn character(&self, glyph: &Glyph<'_>) -> Option<BfString> {
        let Glyph::Outline(glyph) = glyph else { return None };
        let font = self.fonts.get(&glyph.font_data()?.postscript_name?)?;
        let code = glyph.char_code();
        let place = (1..=CODE_BYTES_MAX).find_map(|bytes| font.encoding.lookup_cid_code(code, bytes))?;
        font.characters.lookup_bf_string(place)
    }
}

/// A composite font of a known collection without a table of characters of its own.
fn font(dict: &Dict<'_>, families: &mut HashMap<CidFamily, Rc<CMap>>) -> Option<(String, Font)> {
    let is_composite =
        dict.get::<Name<'_>>(b"Subtype".as_slice()).is_some_and(|kind| kind.as_str() == "Type0");
    if !is_composite || dict.contains_key(b"ToUnicode".as_slice()) {
        return None;
    }
    let base = dict.get::<Name<'_>>(b"BaseFont".as_slice())?;
    let descendants = dict.get::<Array<'_>>(b"DescendantFonts".as_slice())?;
    let descendant = descendants.iter::<Dict<'_>>().next()?;
    let info = descendant.get::<Dict<'_>>(b"CIDSystemInfo".as_slice())?;
    let part = |key: &[u8]| info.get::<Text<'_>>(key).map(|text| text.as_bytes().to_vec());
    let family = CidFamily::from_registry_ordering(&part(b"Registry")?, &part(b"Ordering")?);
    let characters = match families.get(&family) {
        Some(known) => Rc::clone(known),
        None => {
            let characters = Rc::new(CMap::parse(load_embedded(family.ucs2_cmap()?)?, load_embedded)?);
            families.insert(family, Rc::clone(&characters));
            characters
        }
    };
    let encoding = encoding(&dict.get::<Object<'_>>(b"Encoding".as_slice())?)?;
    Some((without_mark(base.as_str()).to_owned(), Font { encoding, characters }))
}

fn encoding(object: &Object<'_>) -> Option<CMap> {
    match object {
        Object::Name(name) => match CMapName::from_bytes(name) {
            CMapName::IdentityH => Some(CMap::identity_h()),
            CMapName::IdentityV => Some(CMap::identity_v()),
            name => CMap::parse(load_embedded(name)?, load_embedded),
        },
        Object::Stream(stream) => CMap::parse(&Stream::decoded_data(stream).ok()?, load_embedded),
        _ => None,
    }
}

/// `ABCDEF+Name` is a subset of `Name`.
fn without_mark(name: &str) -> &str {
    match name.split_once('+') {
        Some((mark, rest)) if mark.len() == 6 && mark.bytes().all(|b| b.is_ascii_uppercase()) => rest,
        _ => name,
    }
}
