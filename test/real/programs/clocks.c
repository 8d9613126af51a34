/* The clocks, also by way of the vDSO: no one of them goes backwards. */
#include "selfcheck.h"

static double last[4];

static void damage(int kind)
{
	last[kind - 1] += 1e6;
}

int main(int argc, char **argv)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE };

	start(argc, argv, 4);
	ready();
	while (running())
		for (int i = 0; i < 4; i++) {
			double now = seconds(clocks[i]);

			if (now < last[i])
				wrong("clock %d goes from %.9f to %.9f", (int)clocks[i], last[i], now);
			last[i] = now;
		}
	done();
}
