-- Contents of programs' files come into their rows, and from there into the blob store, largest first (gateway/offload.c).

create index files_in_rows on files (size) where blob is null;
