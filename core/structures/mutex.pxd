"""The system's mutex, for writers that are rare and short. Readers on the path of a message take none."""

cdef extern from "<pthread.h>" nogil:
    ctypedef struct Mutex "pthread_mutex_t":
        pass

    int mutex_init "pthread_mutex_init" (Mutex *mutex, const void *attributes)
    int mutex_destroy "pthread_mutex_destroy" (Mutex *mutex)
    int mutex_lock "pthread_mutex_lock" (Mutex *mutex)
    int mutex_try_lock "pthread_mutex_trylock" (Mutex *mutex)  # 0 = locked
    int mutex_unlock "pthread_mutex_unlock" (Mutex *mutex)
