//! Speaks HTTP and serves the web page; decides status codes and nothing else.
