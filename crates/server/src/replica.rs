mod watermarks;
