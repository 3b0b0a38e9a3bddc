// Package readme runs the commands that README.md and the pages under docs/ show, and
// compares what they print with what the pages say that they print.
//
// Commands stand in fenced blocks of the kind `console`:
//
//		```console
//		$ weir version
//		weir …
//		```
//
//	  - A line that begins with "$ " is a command for bash; if it ends with a backslash
//	    the next line belongs to it. Lines that begin with "# " are for the reader.
//	  - The lines after it are its output, standard error included. None at all: the
//	    output is not compared. White space within a line is not compared.
//	  - "…" stands for any text within a line; a line of "…" alone for any number of
//	    lines.
//	  - A command must end with status 0; the last one of a block "console exit=3" with 3.
//	  - A command that is or ends with `weir serve …` (or `go run ./cmd/weir serve …`)
//	    goes on running until the next of them, or the end of the page. Their output need only begin as it is shown.
//	  - A block "console skip" is not run.
//
// Each page is run from top to bottom in a directory that looks like the root of the
// repository, in which it may write. weir is built once: `go run ./cmd/weir` is run as
// `weir`. The ports 8080 and 8081 are replaced by free ones, in commands and output.
package readme
