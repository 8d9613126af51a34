/* What the example of blcr-cli(7) needs of the header of FTB 0.6.2: the names, sizes and
   order of members, as they are on the wire or in its programming interface. */
#include <stdint.h>
#include <sys/types.h>

#define FTB_SUCCESS 0
#define FTB_GOT_NO_EVENT (-17)

typedef struct {
	char client_schema_ver[8], event_space[64], client_name[16], client_jobid[16];
	char client_subscription_style[32];
	int client_polling_queue_len;
} FTB_client_t;

typedef struct {
	char hostname[64], pid_starttime[32];
	pid_t pid;
} FTB_location_id_t;

typedef struct {
	char region[64], comp_cat[64], comp[64], client_name[16];
	uint8_t ext;
} FTB_client_id_t;

typedef struct {
	char event_name[32], severity[16];
	FTB_client_id_t client_id;
	uint16_t seqnum;
	FTB_location_id_t location_id;
} FTB_event_handle_t;

typedef struct {
	char event_space[64], event_name[32], severity[16], client_jobid[16], client_name[16];
	uint8_t client_extension;
	uint16_t seqnum;
	FTB_location_id_t incoming_src;
	uint8_t event_type;
	char event_payload[368];
} FTB_receive_event_t;

typedef struct { FTB_client_id_t client_id; } FTB_client_handle_t;
typedef struct { FTB_client_handle_t client_handle; } FTB_subscribe_handle_t;

int FTB_Connect(const FTB_client_t *, FTB_client_handle_t *);
int FTB_Subscribe(FTB_subscribe_handle_t *, FTB_client_handle_t, const char *,
	int (*)(FTB_receive_event_t *, void *), void *);
int FTB_Poll_event(FTB_subscribe_handle_t, FTB_receive_event_t *);

_Static_assert(sizeof(FTB_event_handle_t) == 360, "a handle");
