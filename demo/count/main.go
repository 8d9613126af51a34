// Count is the program of the demonstration. It writes the numbers from 1 to 12 to
// standard output, one every half second, and ends with exit status 7.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	for n := 1; n <= 12; n++ {
		fmt.Println(n)
		time.Sleep(500 * time.Millisecond)
	}
	os.Exit(7)
}
