//! Is a batch well-formed? Columns of equal length, whole rows, within the limits of the contract.

/// Rows of one upsert and ids of one delete.
pub const ROWS_MAX: usize = 512;

/// Lengths of a batch's columns and of its vectors.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub ids: usize,
    pub texts: usize,
    pub fields: usize,
    pub dim: usize,
    pub floats: usize,
}

/// The error says which column is wrong.
pub fn check(shape: Shape) -> Result<(), String> {
    let Shape { ids, texts, fields, dim, floats } = shape;
    if ids > ROWS_MAX {
        return Err(format!("a batch has at most {ROWS_MAX} rows; this one has {ids}"));
    }
    if fields != ids || texts != ids {
        return Err(format!("{ids} ids come with {texts} texts and the fields of {fields}"));
    }
    if dim == 0 || ids.checked_mul(dim) != Some(floats) {
        return Err(format!("{ids} ids come with {floats} numbers, which is not {dim} each"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_must_agree() {
        let good = Shape { ids: 2, texts: 2, fields: 2, dim: 3, floats: 6 };
        assert_eq!(check(good), Ok(()));
        assert_eq!(check(Shape { ids: 0, texts: 0, fields: 0, dim: 3, floats: 0 }), Ok(()));
        for (bad, words) in [
            (Shape { texts: 1, ..good }, "1 texts"),
            (Shape { fields: 3, ..good }, "fields of 3"),
            (Shape { floats: 5, ..good }, "5 numbers"),
            (Shape { dim: 0, ..good }, "not 0 each"),
            (Shape { ids: 513, texts: 513, fields: 513, dim: 1, floats: 513 }, "at most 512"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
