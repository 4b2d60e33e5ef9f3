pub fn rows() -> Vec<crate::Row> {
    Vec::new()
}
