//! What stands in the pictures of a page without text? They are handed to the host's recognition, upright and grey.

use guest_doc::{Area, Block, HostError, Image, Kind, Ocr, OcrLine, join_lines};
use hayro_interpret::font::GlyphRun;
use hayro_interpret::hayro_syntax::Pdf;
use hayro_interpret::kurbo::{Affine, BezPath, Point, Rect};
use hayro_interpret::{
    BlendMode, ClipPath, Device, DrawMode, DrawProps, Image as PdfImage, ImageData, ImageDrawProps,
    InterpreterCache, SoftMask,
};

use crate::document::interpret;

/// Pixels of a picture that the host takes; larger ones are halved until they fit.
const PIXELS_MAX: usize = 16 << 20;
/// Pictures of one page that are recognised, and the share of the page that each covers at least.
const PICTURES_MAX: usize = 16;
const SHARE_MIN: f64 = 0.02;

/// A picture as it stands on the page.
struct Picture {
    width: usize,
    height: usize,
    grey: Vec<u8>,
    /// From pixels to points of the page.
    transform: Affine,
}

/// The text blocks of a page's pictures, from top to bottom.
pub(crate) fn recognize(pdf: &Pdf, number: u32, ocr: &dyn Ocr) -> Result<Vec<Block>, HostError> {
    let Some(page) = pdf.pages().get(number as usize - 1) else { return Ok(Vec::new()) };
    let (width, height) = page.render_dimensions();
    let cache = InterpreterCache::new();
    let mut pictures =
        Pictures { found: Vec::new(), page: Rect::new(0.0, 0.0, f64::from(width), f64::from(height)) };
    interpret(pdf, page, &cache, &mut pictures);
    let mut found: Vec<Picture> = pictures.found.into_iter().map(upright).collect();
    found.sort_by(|a, b| top(a).total_cmp(&top(b)));
    let mut blocks = Vec::new();
    for picture in found {
        let Picture { width, height, grey, transform } = picture;
        let image = Image::Grey { width: width as u32, height: height as u32, pixels: grey };
        let lines: Vec<OcrLine> = ocr
            .recognize(image)?
            .into_iter()
            .map(|line| OcrLine { area: on_page(transform, line.area), ..line })
            .collect();
        for (text, area) in join_lines(&lines) {
            blocks.push(Block { area: Some(area), ..Block::new(Kind::Paragraph, text).on_page(number) });
        }
    }
    Ok(blocks)
}

fn top(picture: &Picture) -> f64 {
    (picture.transform * Point::ZERO).y
}

fn on_page(transform: Affine, area: Area) -> Area {
    let corner = |x: f32, y: f32| Point::new(f64::from(x), f64::from(y));
    let pixels = Rect::from_points(corner(area.x, area.y), corner(area.x + area.width, area.y + area.height));
    let points = transform.transform_rect_bbox(pixels);
    Area {
        x: points.x0 as f32,
        y: points.y0 as f32,
        width: points.width() as f32,
        height: points.height() as f32,
    }
}

struct Pictures {
    found: Vec<Picture>,
    page: Rect,
}

impl Pictures {
    fn keep(&mut self, width: u32, height: u32, grey: Vec<u8>, transform: Affine, decoded: (u32, u32)) {
        let (columns, rows) = (decoded.0 as usize, decoded.1 as usize);
        if columns == 0 || rows == 0 || grey.len() != columns * rows {
            return;
        }
        let scale = Affine::scale_non_uniform(
            f64::from(width) / f64::from(decoded.0),
            f64::from(height) / f64::from(decoded.1),
        );
        let mut picture = Picture { width: columns, height: rows, grey, transform: transform * scale };
        while picture.width * picture.height > PIXELS_MAX {
            picture = halved(&picture);
        }
        self.found.push(picture);
    }
}

impl<'a> Device<'a> for Pictures {
    fn draw_image(&mut self, image: PdfImage<'a, '_>, props: ImageDrawProps<'a>) {
        let (width, height) = (image.width(), image.height());
        let area =
            props.transform.transform_rect_bbox(Rect::new(0.0, 0.0, f64::from(width), f64::from(height)));
        let share = area.intersect(self.page).area() / self.page.area().max(1.0);
        if self.found.len() >= PICTURES_MAX || !share.is_finite() || share < SHARE_MIN {
            return;
        }
        match image {
            PdfImage::Raster(raster) => raster.with_rgba(
                |data, _| {
                    let decoded = (data.width(), data.height());
                    let grey = match data {
                        ImageData::Luma(luma) => luma.data,
                        ImageData::Rgb(rgb) => rgb.data.chunks_exact(3).map(luminance).collect(),
                    };
                    self.keep(width, height, grey, props.transform, decoded);
                },
                None,
            ),
            // A stencil paints where it is set: dark on light, as recognition expects.
            PdfImage::Stencil(stencil) => stencil.with_stencil(
                |luma, _| {
                    let grey = luma.data.iter().map(|value| 255 - value).collect();
                    self.keep(width, height, grey, props.transform, (luma.width, luma.height));
                },
                None,
            ),
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn draw_glyph_run(&mut self, _: &GlyphRun<'_, 'a>, _: DrawProps<'a>, _: &DrawMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

fn luminance(pixel: &[u8]) -> u8 {
    match pixel {
        [red, green, blue] => {
            ((u32::from(*red) * 77 + u32::from(*green) * 151 + u32::from(*blue) * 28) >> 8) as u8
        }
        _ => 255,
    }
}

/// Half as wide and high, each pixel the mean of four.
fn halved(picture: &Picture) -> Picture {
    let (width, height) = (picture.width / 2, picture.height / 2);
    let at = |x: usize, y: usize| u32::from(picture.grey.get(y * picture.width + x).copied().unwrap_or(255));
    let mut grey = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let sum =
                at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1);
            grey.push((sum / 4) as u8);
        }
    }
    Picture { width, height, grey, transform: picture.transform * Affine::scale(2.0) }
}

/// Turned and mirrored as it stands on the page: scanners store pages sideways.
fn upright(picture: Picture) -> Picture {
    let [xx, xy, yx, yy, ..] = picture.transform.as_coeffs();
    let swapped = xy.abs() > xx.abs() && yx.abs() > yy.abs();
    let (left, down) = if swapped { (yx < 0.0, xy < 0.0) } else { (xx < 0.0, yy < 0.0) };
    if !swapped && !left && !down {
        return picture;
    }
    let Picture { width: columns, height: rows, grey, transform } = picture;
    let (width, height) = if swapped { (rows, columns) } else { (columns, rows) };
    let mut turned = Vec::with_capacity(grey.len());
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (if left { width - 1 - x } else { x }, if down { height - 1 - y } else { y });
            let (column, row) = if swapped { (y, x) } else { (x, y) };
            turned.push(grey.get(row * columns + column).copied().unwrap_or(255));
        }
    }
    // Pixels of the turned picture, as pixels of the stored one.
    let (w, h) = (width as f64, height as f64);
    let mirror = Affine::new([
        if left { -1.0 } else { 1.0 },
        0.0,
        0.0,
        if down { -1.0 } else { 1.0 },
        if left { w } else { 0.0 },
        if down { h } else { 0.0 },
    ]);
    let swap = if swapped { Affine::new([0.0, 1.0, 1.0, 0.0, 0.0, 0.0]) } else { Affine::IDENTITY };
    Picture { width, height, grey: turned, transform: transform * swap * mirror }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(transform: Affine) -> Picture {
        // 1 2 3
        // 4 5 6
        Picture { width: 3, height: 2, grey: vec![1, 2, 3, 4, 5, 6], transform }
    }

    #[test]
    fn pictures_are_turned_as_they_stand_on_the_page() {
        for (coefficients, width, expected) in [
            ([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 3, [1, 2, 3, 4, 5, 6]),
            ([-1.0, 0.0, 0.0, -1.0, 3.0, 2.0], 3, [6, 5, 4, 3, 2, 1]),
            // A quarter to the right: what was left is up.
            ([0.0, 1.0, -1.0, 0.0, 2.0, 0.0], 2, [4, 1, 5, 2, 6, 3]),
        ] {
            let turned = upright(picture(Affine::new(coefficients)));
            assert_eq!((turned.width, turned.grey.as_slice()), (width, &expected[..]), "{coefficients:?}");
            let corner = turned.transform * Point::ZERO;
            assert!(corner.x.abs() < 1e-9 && corner.y.abs() < 1e-9, "{corner:?}");
        }
    }

    #[test]
    fn large_pictures_are_halved() {
        let half = halved(&Picture {
            width: 4,
            height: 2,
            grey: vec![0, 4, 8, 8, 0, 4, 8, 8],
            transform: Affine::IDENTITY,
        });
        assert_eq!((half.width, half.height, half.grey), (2, 1, vec![2, 8]));
    }
}
