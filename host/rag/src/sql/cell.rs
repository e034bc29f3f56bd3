//! Values of a plugin as PostgreSQL's binary format, and back; pgvector's `vector` among them.

use bytes::{BufMut, BytesMut};
use rag_core::ports::SqlValue;
use rag_core::{Error, Result};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Numbers of a vector that pgvector keeps.
const VECTOR_DIM_MAX: usize = 16_000;

type Boxed = Box<dyn std::error::Error + Sync + Send>;

/// A parameter; the statement decides its type.
#[derive(Debug)]
pub(super) struct Param(pub(super) SqlValue);

impl ToSql for Param {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        let unfit = || -> Result<IsNull, Boxed> {
            Err(format!("a parameter of type {} got {}", ty.name(), kind(&self.0)).into())
        };
        match &self.0 {
            SqlValue::Null => Ok(IsNull::Yes),
            SqlValue::Boolean(value) if *ty == Type::BOOL => value.to_sql(ty, out),
            SqlValue::Integer(value) => match *ty {
                Type::INT2 => i16::try_from(*value)?.to_sql(ty, out),
                Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
                Type::INT8 => value.to_sql(ty, out),
                Type::FLOAT8 => (*value as f64).to_sql(ty, out),
                _ => unfit(),
            },
            SqlValue::Number(value) => match *ty {
                Type::FLOAT4 => (*value as f32).to_sql(ty, out),
                Type::FLOAT8 => value.to_sql(ty, out),
                _ => unfit(),
            },
            SqlValue::Text(value) if <&str as ToSql>::accepts(ty) => value.as_str().to_sql(ty, out),
            // A version byte stands before the text.
            SqlValue::Text(value) if *ty == Type::JSONB => {
                out.put_u8(1);
                out.put_slice(value.as_bytes());
                Ok(IsNull::No)
            }
            SqlValue::Text(value) if *ty == Type::JSON => {
                out.put_slice(value.as_bytes());
                Ok(IsNull::No)
            }
            SqlValue::Bytes(value) if *ty == Type::BYTEA => value.as_slice().to_sql(ty, out),
            SqlValue::Floats(value) if *ty == Type::FLOAT4_ARRAY => value.to_sql(ty, out),
            SqlValue::Floats(value) if ty.name() == "vector" => {
                if value.len() > VECTOR_DIM_MAX {
                    return Err(format!("a vector has at most {VECTOR_DIM_MAX} numbers").into());
                }
                out.put_u16(value.len() as u16);
                out.put_u16(0);
                value.iter().for_each(|number| out.put_f32(*number));
                Ok(IsNull::No)
            }
            _ => unfit(),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn kind(value: &SqlValue) -> &'static str {
    match value {
        SqlValue::Null => "null",
        SqlValue::Boolean(_) => "a boolean",
        SqlValue::Integer(_) => "an integer",
        SqlValue::Number(_) => "a number",
        SqlValue::Text(_) => "a text",
        SqlValue::Bytes(_) => "bytes",
        SqlValue::Floats(_) => "numbers",
    }
}

/// pgvector's `vector`.
struct Floats(Vec<f32>);

impl<'a> FromSql<'a> for Floats {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let numbers = raw.get(4..).ok_or("a vector without its length")?.chunks_exact(4);
        let number = |bytes: &[u8]| match bytes {
            [a, b, c, d] => f32::from_be_bytes([*a, *b, *c, *d]),
            _ => 0.0,
        };
        Ok(Floats(numbers.map(number).collect()))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }
}

/// A cell; one of a type that plugins do not know is refused, and the statement may cast it.
pub(super) fn read(row: &Row, at: usize) -> Result<SqlValue> {
    let Some(column) = row.columns().get(at) else { return Ok(SqlValue::Null) };
    let ty = column.type_();
    let value = match *ty {
        Type::BOOL => row.try_get::<_, Option<bool>>(at).map(|v| v.map(SqlValue::Boolean)),
        Type::INT2 => row.try_get::<_, Option<i16>>(at).map(|v| v.map(|v| SqlValue::Integer(v.into()))),
        Type::INT4 => row.try_get::<_, Option<i32>>(at).map(|v| v.map(|v| SqlValue::Integer(v.into()))),
        Type::INT8 => row.try_get::<_, Option<i64>>(at).map(|v| v.map(SqlValue::Integer)),
        Type::FLOAT4 => row.try_get::<_, Option<f32>>(at).map(|v| v.map(|v| SqlValue::Number(v.into()))),
        Type::FLOAT8 => row.try_get::<_, Option<f64>>(at).map(|v| v.map(SqlValue::Number)),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(at).map(|v| v.map(SqlValue::Bytes)),
        Type::FLOAT4_ARRAY => row.try_get::<_, Option<Vec<f32>>>(at).map(|v| v.map(SqlValue::Floats)),
        _ if ty.name() == "vector" => {
            row.try_get::<_, Option<Floats>>(at).map(|v| v.map(|Floats(v)| SqlValue::Floats(v)))
        }
        _ if <String as FromSql<'_>>::accepts(ty) => {
            row.try_get::<_, Option<String>>(at).map(|v| v.map(SqlValue::Text))
        }
        _ => {
            return Err(Error::invalid(format!(
                "column '{}' is of type {}, which is not handed to plugins: cast it to text",
                column.name(),
                ty.name()
            )));
        }
    };
    let value = value.map_err(|error| Error::internal(format!("column '{}': {error}", column.name())))?;
    Ok(value.unwrap_or(SqlValue::Null))
}

/// Bytes that a value takes, about.
pub(super) fn size(value: &SqlValue) -> usize {
    match value {
        SqlValue::Null | SqlValue::Boolean(_) | SqlValue::Integer(_) | SqlValue::Number(_) => 8,
        SqlValue::Text(text) => 8 + text.len(),
        SqlValue::Bytes(bytes) => 8 + bytes.len(),
        SqlValue::Floats(floats) => 8 + 4 * floats.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::types::Kind;

    fn bytes(value: SqlValue, ty: &Type) -> Result<Vec<u8>, Boxed> {
        let mut out = BytesMut::new();
        Param(value).to_sql(ty, &mut out).map(|_| out.to_vec())
    }

    #[test]
    fn values_are_written_as_the_statement_wants_them() {
        let vector = Type::new("vector".to_owned(), 90_000, Kind::Simple, "public".to_owned());
        let written = bytes(SqlValue::Floats(vec![1.0, -2.0]), &vector).unwrap();
        assert_eq!(written, [0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0]);
        assert_eq!(Floats::from_sql(&vector, &written).unwrap().0, [1.0, -2.0]);
        assert_eq!(bytes(SqlValue::Integer(7), &Type::INT2).unwrap(), [0, 7]);
        assert_eq!(bytes(SqlValue::Text("字".to_owned()), &Type::TEXT).unwrap(), "字".as_bytes());
        assert_eq!(bytes(SqlValue::Text("{}".to_owned()), &Type::JSONB).unwrap(), b"\x01{}");
        for (value, ty) in [
            (SqlValue::Integer(70_000), Type::INT2),
            (SqlValue::Text("1; drop table x".to_owned()), Type::INT4),
            (SqlValue::Boolean(true), Type::TEXT),
            (SqlValue::Floats(vec![0.0; 20_000]), vector.clone()),
        ] {
            assert!(bytes(value.clone(), &ty).is_err(), "{value:?} as {ty}");
        }
    }
}
