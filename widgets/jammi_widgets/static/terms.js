/** What the words of the field mean, for somebody who has read nothing: their tooltips. */
const TERMS = {
  // kinds of nodes
  "sql": "A table computed by an SQL statement", "python": "A table computed by a Python function", "embedding": "A table with a vector for each text; similar texts have similar vectors", "imported": "A table of vectors that were computed elsewhere",
  "neighbor_graph": "The nearest rows of each row of an embedding table", "graph_propagation": "Vectors that are mixed with those of their neighbours", "context_set": "One vector for each group of rows", "asof_join": "Rows joined with the last earlier row of another table",
  "external": "A table whose rows were stored from a frame", "projection": "A position on a map for each row of an embedding table", "lexical": "The words of the texts of a source, for search by words", "row_map": "A table computed row by row by a function",
  "recipe": "The definition of a table that has no version yet", "source": "Data outside of the workspace: a file, a folder, a table of a database", "frame": "A table in the memory of the notebook (pandas, polars, Arrow)", "mutable": "A table whose rows can be inserted, updated and deleted",
  "topic": "A table to which rows are only added", "model": "What turns texts into vectors", "clock": "The current date or time, on which a table depends",
  // facts of a table
  "dimensions": "How many numbers a vector has", "completed": "When this version was computed", "physical name": "The name of exactly this version, also in SQL", "definition": "A digest of the statement or function with its parameters; equal digests are equal definitions",
  "artifact": "A digest of the file with the rows; equal digests are equal rows", "produced by": "The release of jammi_lab that computed the file, and the run in which it did", "produced at": "When the file was computed, which this version uses again", "increment": "Only this part was computed; the rest was taken from the version before",
  "identifiers": "Names and digests by which programs recognize this version", "anchors": "The state of each input when it was read. The verdict compares it with the state now", "state": "A digest, a version or a time, which is another one when the input changes", "method": "How the state was determined",
  "columns read": "Only a change in these columns makes the table stale", "result_digest": "The digests of the columns of a result table", "source_version": "The bytes, the version or the time of a source", "mutable_version": "The number of changes to a mutable table", "unpinned_at_instant": "No state could be determined: only the time is known",
  // checks
  "pass": "All checks of the rows pass", "fail": "A check of the rows fails", "due": "The rows changed since their checks ran", "blocks": "A new version that fails this check is rejected", "warns": "A new version that fails this check is stored all the same",
  // outcomes of a step
  "computed": "The table has a new version", "reused": "A stored table of the same definition and inputs is used", "failed": "The step ended with an error; the former version stays", "blocked": "An input could not be computed; the former version stays", "rejected": "The new rows fail a check; the former version stays",
  "pinned": "This version is kept when old versions are removed",
  "skipped": "The step was not run", "not needed: inputs came out equal": "Its inputs were computed again and have the same rows as before", "not needed: already up to date": "It was up to date when its turn came",
  // the catalog
  "Sources": "Data outside of the workspace, from which tables are computed", "Result tables": "Tables that were computed and stored, each with its recipe and versions", "Mutable tables": "Tables whose rows can be inserted, updated and deleted", "Topics": "Tables to which rows are only added",
  "Sessions": "Temporary tables, which are removed at a deadline", "Models": "What turns texts into vectors",
  // vectors
  "index": "A structure that finds near vectors without comparing all of them. f32, f16, bf16 or i8: how it stores numbers. The percentage: the share of the rows in it", "exact search": "The query was compared with all rows", "variance": "How much of the differences between the vectors the two directions show. Points that are far apart differ; near ones may",
  "t-SNE": "Places similar rows near each other; distances between groups mean little",
};

/** What a word means; null for one that needs no explanation. */
export const explanation = (word) => (Object.hasOwn(TERMS, word) ? TERMS[word] : null);

/** The explanations of all words that occur in a text, as the lines of its tooltip. */
export const explanations = (text) => [text, ...Object.entries(TERMS).filter(([word]) => new RegExp(`\\b${word}\\b`).test(text)).map(([word, said]) => `${word}: ${said}`)].join("\n");
