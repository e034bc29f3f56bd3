//! Is a text Chinese, so that what is said of it should be too?

/// Whether more than a quarter of its letters are Han: Chinese text quotes commands and names in Latin letters.
pub fn is_chinese(text: &str) -> bool {
    let (mut han, mut letters) = (0_usize, 0_usize);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        han += usize::from(matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{323af}'));
    }
    han * 4 > letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_may_quote_latin_names() {
        for text in
            ["怎样安装软件包？", "怎样用 systemctl 重启 networking 服务，使设置生效？", "什麼是 RWKV？"]
        {
            assert!(is_chinese(text), "{text}");
        }
        for text in ["How to install?", "The word 网络 means network.", "42", "", "これはペンです"] {
            assert!(!is_chinese(text), "{text}");
        }
    }
}
